#include "device_top_k.h"

#include "error.h"
#include "shimmy.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace shimmy {

namespace {

// A change is paid back by the rows that are not copied, at some 10 to 100 us each (the device's bus decides), after about so many
// steps. Where requests of both kinds alternate, the wait doubles each time, and changes become rare.
constexpr int32_t first_wait = 64;
constexpr int32_t longest_wait = 4096;

}  // namespace

DeviceTopK::Chain DeviceTopK::make() const {
    llama_sampler_chain_params params = llama_sampler_chain_default_params();
    params.no_perf = true;
    Chain chain(llama_sampler_chain_init(params));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_top_k(k_));
    return chain;
}

void DeviceTopK::begin(llama_context_params & params, int32_t n_vocab) {
    available_ = true;
    k_ = std::min(most, n_vocab);
    wait_ = first_wait / 2;
    for (uint32_t seq_id = 0; seq_id < params.n_seq_max; ++seq_id) {
        chains_.push_back(make());
        configs_.push_back({static_cast<llama_seq_id>(seq_id), chains_.back().get()});
    }
    params.samplers = configs_.data();
    params.n_samplers = configs_.size();
    params.n_outputs_max_per_seq = 0;  // as many as a step may have; its default of 1 makes a decode with more fail
}

// llama.cpp marks a sampler that the device runs with a plus before its name.
void DeviceTopK::confirm(llama_context * context) {
    configs_.clear();
    if (attached() && llama_sampler_name(llama_sampler_chain_get(chains_.front().get(), 0))[0] != '+') {
        detach(context);
        available_ = false;
    }
}

void DeviceTopK::prepare(llama_context * context, bool suits) {
    if (!available_) {
        return;
    }
    if (attached() && !suits) {
        wait_ = n_steps_ >= longest_wait ? first_wait : std::min(2 * wait_, longest_wait);
        detach(context);
        n_steps_ = 0;
    } else if (!suits) {
        n_steps_ = 0;
    } else if (n_steps_ < longest_wait) {
        ++n_steps_;
    }
    if (!attached() && n_steps_ >= wait_) {
        attach(context);
        n_steps_ = 0;
    }
}

// A chain can be attached once only: llama.cpp aborts at the second time.
void DeviceTopK::attach(llama_context * context) {
    const auto n_seq = static_cast<llama_seq_id>(llama_n_seq_max(context));
    for (llama_seq_id seq_id = 0; seq_id < n_seq; ++seq_id) {
        chains_.push_back(make());
        llama_set_sampler(context, seq_id, chains_.back().get());
    }
}

void DeviceTopK::detach(llama_context * context) {
    for (size_t seq_id = 0; seq_id < chains_.size(); ++seq_id) {
        llama_set_sampler(context, static_cast<llama_seq_id>(seq_id), nullptr);
    }
    chains_.clear();
}

void DeviceTopK::read(llama_context * context, int32_t output, std::vector<Candidate> & out) const {
    const uint32_t n = llama_get_sampled_logits_count_ith(context, output);
    const float * logits = llama_get_sampled_logits_ith(context, output);
    if (n == 0 || logits == nullptr || llama_get_sampled_candidates_count_ith(context, output) != n) {
        throw Error(SHIMMY_E_COMPUTE, "the device gave no largest logits");
    }
    const llama_token * tokens = llama_get_sampled_candidates_ith(context, output);
    out.clear();
    for (uint32_t i = 0; i < n; ++i) {
        if (logits[i] == std::numeric_limits<float>::infinity()) {
            out.clear();
            return;
        }
        if (logits[i] > -std::numeric_limits<float>::infinity()) {  // NaN is not
            out.push_back({tokens[i], logits[i]});
        }
    }
}

}  // namespace shimmy
