#include "context.h"

#include "adapter.h"
#include "error.h"
#include "state.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>

using namespace shimmy;

namespace {

bool on_abort(void * data) { return static_cast<const std::atomic<bool> *>(data)->load(std::memory_order_relaxed); }

int64_t now_ns() {
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

}  // namespace

shimmy_context::shimmy_context(const shimmy_model & model, const shimmy_context_params & params)
    : model_(model), unified_(params.kv_unified), spin_(params.spin), n_outputs_max_(params.n_outputs_max) {
    llama_context_params p = to_llama(params);
    check_cache_types(model.model.get(), p);
    settings_hash_ = hash_settings(params);
    p.abort_callback = on_abort;
    p.abort_callback_data = &interrupted;
    if (params.device_sampling > 0 || (params.device_sampling < 0 && model.output_on_gpu)) {
        device_.begin(p, model.n_vocab);
    }
    forget_log();
    context_.reset(llama_init_from_model(model.model.get(), p));
    if (!context_) {
        const std::string why = logged_errors();
        const bool memory = why.find("alloc") != std::string::npos || why.find("memory") != std::string::npos;
        throw Error(memory ? SHIMMY_E_MEMORY : SHIMMY_E_INVALID, why.empty() ? "llama.cpp could not make a context" : why);
    }
    // Without a memory, or with attention in both directions, there is no next token.
    if (llama_get_memory(context_.get()) == nullptr || !llama_get_causal_attn(context_.get())) {
        throw Error(SHIMMY_E_INVALID, "this model makes embeddings and cannot generate text", "model");
    }
    device_.confirm(context_.get());
    threads_.attach(context_.get(), params.n_threads, params.n_threads_batch, spin_);
}

void shimmy_context::set_threads(int32_t n_threads, int32_t n_threads_batch) {
    require(n_threads >= 1 && n_threads <= GGML_MAX_N_THREADS, "n_threads must be 1..512");
    require(n_threads_batch >= 1 && n_threads_batch <= GGML_MAX_N_THREADS, "n_threads_batch must be 1..512");
    threads_.attach(context_.get(), n_threads, n_threads_batch, spin_);
}

void shimmy_context::set_adapters(shimmy_adapter * const * adapters, const float * scales, int32_t n) {
    require(n >= 0 && (n == 0 || (adapters != nullptr && scales != nullptr)), "a pointer is NULL");
    std::vector<llama_adapter_lora *> loras;
    std::vector<float> factors;
    for (int32_t i = 0; i < n; ++i) {
        require_param(adapters[i] != nullptr && adapters[i]->model == &model_, "lora", "was loaded for another model");
        require_param(std::isfinite(scales[i]), "lora", "must have a finite scale");
        require_param(std::find(loras.begin(), loras.end(), adapters[i]->lora) == loras.end(), "lora",
                      "names an adapter twice");
        loras.push_back(adapters[i]->lora);
        factors.push_back(scales[i]);
    }
    steady_.seq_ids.clear();
    llama_set_adapters_lora(context_.get(), loras.data(), loras.size(), factors.data());
}

uint64_t shimmy_context::fingerprint() {
    if (fingerprint_ == 0) {
        fingerprint_ = hash_model(model_) ^ settings_hash_;
    }
    return fingerprint_;
}

void shimmy_context::check_seq(int32_t seq_id) const {
    require(seq_id >= 0 && seq_id < static_cast<int32_t>(llama_n_seq_max(context_.get())), "seq_id is not below n_seq_max");
}

// Everything that llama_decode would abort on, or answer with a bare -1.
void shimmy_context::check_runs(const shimmy_step_batch & in) {
    require(in.n_runs >= 1, "a step needs a run");
    require(in.seq_ids && in.positions && in.lengths && in.tokens && in.samplers, "a pointer is NULL");
    next_position_.assign(llama_n_seq_max(context_.get()), -1);
    const int32_t n_batch = static_cast<int32_t>(llama_n_batch(context_.get()));
    int32_t n_tokens = 0;
    int32_t n_outputs = 0;
    int32_t n_guessed = 0;
    for (int32_t r = 0; r < in.n_runs; ++r) {
        const int32_t length = in.lengths[r];
        require(length >= 1 && length <= n_batch - n_tokens, "the step has more tokens than n_batch");
        check_seq(in.seq_ids[r]);
        int32_t & next = next_position_[static_cast<size_t>(in.seq_ids[r])];
        if (next == -1) {
            next = llama_memory_seq_pos_max(memory(), in.seq_ids[r]) + 1;
        }
        require(in.positions[r] == next, "a run does not follow what its sequence holds");
        next += length;
        if (const int32_t n_guesses = guesses_of(in, r); n_guesses != 0) {
            require(n_guesses > 0 && n_guesses < length && in.samplers[r] != nullptr, "a run's guesses follow a token of it, and are drawn");
            require(can_take_back(), "this memory cannot take back guesses");
            n_outputs += n_guesses;
            n_guessed += n_guesses;
            next = -2;  // nothing follows guesses in the same step
        }
        for (int32_t i = n_tokens; i < n_tokens + length; ++i) {
            require(in.tokens[i] >= 0 && in.tokens[i] < model_.n_vocab, "a token id is outside the vocabulary");
        }
        n_tokens += length;
        if (in.samplers[r] != nullptr) {
            require(in.samplers[r]->n_vocab() == model_.n_vocab, "a sampler was made for another model");
            ++n_outputs;
        }
    }
    require(n_outputs <= n_outputs_max_, "the step has more outputs than n_outputs_max");
    // What has left a sliding window can be overwritten from the second part of a batch on, and taking back would need it again.
    require(n_guessed == 0 || n_tokens <= static_cast<int32_t>(llama_n_ubatch(context_.get())),
            "a step with guesses has more tokens than n_ubatch");
    if (n_guessed > 0 && !fits_in_one_piece(n_tokens)) {
        throw Error(SHIMMY_E_KV_FULL, "no room for guesses in the KV cache");
    }
}

void shimmy_context::fill(const shimmy_step_batch & in) {
    batch_.clear();
    output_index_.clear();
    const int32_t * token = in.tokens;
    for (int32_t r = 0; r < in.n_runs; ++r) {
        const bool draws = in.samplers[r] != nullptr;
        const int32_t first_row = in.lengths[r] - 1 - guesses_of(in, r);
        for (int32_t k = 0; k < in.lengths[r]; ++k) {
            const bool row = k >= first_row;
            const int32_t index = batch_.add(*token++, in.positions[r] + k, in.seq_ids[r], row && draws);
            if (row) {
                output_index_.push_back(draws ? index : -1);
            }
        }
    }
}

// A step without outputs has no say in it.
void shimmy_context::narrow_on_device(const shimmy_step_batch & in) {
    bool outputs = false;
    bool suits = true;
    for (int32_t r = 0; r < in.n_runs; ++r) {
        if (in.samplers[r] != nullptr) {
            outputs = true;
            suits = suits && guesses_of(in, r) == 0 && in.samplers[r]->needs_only(device_.k());  // one row of a sequence at most
        }
    }
    if (outputs) {
        device_.prepare(context_.get(), suits);
    }
}

void shimmy_context::decode() {
    forget_log();
    const int32_t status = llama_decode(context_.get(), batch_.view());
    switch (status) {
        case 0:
            llama_synchronize(context_.get());
            return;
        case 1:
            throw Error(SHIMMY_E_KV_FULL, "no room in the KV cache");
        case 2:
            throw Error(SHIMMY_E_CANCELLED, "the step was interrupted");
        default:
            throw Error(SHIMMY_E_COMPUTE, "llama_decode returned " + std::to_string(status) + ": " + logged_errors());
    }
}

void shimmy_context::remember(const shimmy_step_batch & in) {
    const size_t n = static_cast<size_t>(in.n_runs);
    for (size_t r = 0; r < n; ++r) {
        if (drawn_[static_cast<size_t>(last_row_[r])] < 0) {
            return;
        }
    }
    steady_.seq_ids.assign(in.seq_ids, in.seq_ids + n);
    steady_.positions.assign(ends_.begin(), ends_.end());
    steady_.lengths.assign(n, 1);
    steady_.tokens.resize(n);
    for (size_t r = 0; r < n; ++r) {
        steady_.tokens[r] = drawn_[static_cast<size_t>(last_row_[r])];
    }
    steady_.samplers.assign(in.samplers, in.samplers + n);
}

void shimmy_context::repeat(shimmy_step_result & out) {
    require(!steady_.seq_ids.empty(), "the last step did not draw a token for each of its runs");
    std::swap(steady_, repeated_);  // step() fills the other one
    shimmy_step_batch in{};
    in.n_runs = static_cast<int32_t>(repeated_.seq_ids.size());
    in.seq_ids = repeated_.seq_ids.data();
    in.positions = repeated_.positions.data();
    in.lengths = repeated_.lengths.data();
    in.tokens = repeated_.tokens.data();
    in.samplers = repeated_.samplers.data();
    compute(in, out);
    if (stream_.is_open(repeated_.seq_ids.size()) && stream_.add(drawn_, pieces_)) {
        out.frame = stream_.frame().data();
        out.frame_size = static_cast<int32_t>(stream_.frame().size());
    }
}

void shimmy_context::stream(const shimmy_stream_run * runs, int32_t n_runs) {
    require(n_runs >= 1 && static_cast<size_t>(n_runs) == steady_.seq_ids.size(), "the last step had other runs");
    stream_.begin(runs, n_runs);
}

void shimmy_context::step(const shimmy_step_batch & in, shimmy_step_result & out) {
    stream_.end();
    compute(in, out);
}

void shimmy_context::compute(const shimmy_step_batch & in, shimmy_step_result & out) {
    steady_.seq_ids.clear();
    check_runs(in);
    fill(in);
    const int64_t start = now_ns();
    if (device_.available()) {
        narrow_on_device(in);
    }
    decode();
    const int64_t decoded = now_ns();
    sample(in);
    take_back(in);
    remember(in);
    out.drawn = drawn_.data();
    out.pieces = pieces_.data();
    out.samples = samples_.data();
    out.frame = nullptr;
    out.frame_size = 0;
    out.n_rows = static_cast<int32_t>(output_index_.size());
    out.n_promising = count_promising(in);
    ++steps;
    decode_ns += decoded - start;
    sample_ns += now_ns() - decoded;
}

const float * shimmy_context::logits(int32_t row) const {
    if (device_.attached() || row < 0 || static_cast<size_t>(row) >= output_index_.size() || output_index_[static_cast<size_t>(row)] < 0) {
        return nullptr;
    }
    return llama_get_logits_ith(context_.get(), output_index_[static_cast<size_t>(row)]);
}
