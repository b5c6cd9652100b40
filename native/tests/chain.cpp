// chain.h over common_sampler_init.
#include "chain.h"

#include "sampling.h"

#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

struct Chain {
    ~Chain() { common_sampler_free(sampler); }
    common_sampler * sampler = nullptr;
    std::vector<llama_token_data> array;
    std::vector<llama_token_data> sorted;  // scratch of logprobs()
};

llama_token_data_array fill(std::vector<llama_token_data> & array, const float * row, int32_t n) {
    array.resize(static_cast<size_t>(n));
    for (int32_t i = 0; i < n; ++i) {
        array[static_cast<size_t>(i)] = llama_token_data{i, row[i], 0.0f};
    }
    return {array.data(), array.size(), -1, false};
}

// get_token_probabilities of llama-server: the most likely n_top of the raw softmax.
void logprobs(std::vector<llama_token_data> & all, const float * row, int32_t n, int32_t n_top) {
    fill(all, row, n);
    std::partial_sort(all.begin(), all.begin() + n_top, all.end(),
                      [](const llama_token_data & a, const llama_token_data & b) { return a.logit > b.logit; });
    const float max = all[0].logit;
    float sum = 0.0f;
    for (llama_token_data & t : all) {
        t.p = std::exp(t.logit - max);
        sum += t.p;
    }
    for (llama_token_data & t : all) {
        t.p /= sum;
    }
}

double now_ns() {
    return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

// Nanoseconds a row of `body(row)`, each row a fresh copy; one value a row.
template <typename Body>
void time_rows(const float * rows, int32_t n_rows, int32_t n_vocab, double * out, Body && body) {
    const size_t width = static_cast<size_t>(n_vocab);
    std::vector<float> work(width);
    for (int32_t r = 0; r < n_rows; ++r) {
        std::memcpy(work.data(), rows + static_cast<size_t>(r) * width, width * sizeof(float));
        const double start = now_ns();
        body(work.data());
        out[r] = now_ns() - start;
    }
}

}  // namespace

extern "C" {

void * chain_model(const char * path) {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    return llama_model_load_from_file(path, params);
}

void chain_model_free(void * model) { llama_model_free(static_cast<llama_model *>(model)); }

void * chain_new(void * model, const chain_params * p) {
    common_params_sampling s;
    s.no_perf = true;
    s.seed = p->seed;
    s.temp = p->temperature;
    s.dynatemp_range = p->dynatemp_range;
    s.dynatemp_exponent = p->dynatemp_exponent;
    s.top_k = p->top_k;
    s.top_p = p->top_p;
    s.min_p = p->min_p;
    s.typ_p = p->typical_p;
    s.top_n_sigma = p->top_n_sigma;
    s.xtc_probability = p->xtc_probability;
    s.xtc_threshold = p->xtc_threshold;
    s.min_keep = p->min_keep;
    s.penalty_repeat = p->repeat_penalty;
    s.penalty_present = p->presence_penalty;
    s.penalty_freq = p->frequency_penalty;
    s.penalty_last_n = p->repeat_last_n;
    s.dry_multiplier = p->dry_multiplier;
    s.dry_base = p->dry_base;
    s.dry_allowed_length = p->dry_allowed_length;
    s.dry_penalty_last_n = p->dry_penalty_last_n;
    s.dry_sequence_breakers.assign(p->breakers, p->breakers + p->n_breakers);
    s.mirostat = p->mirostat;
    s.mirostat_tau = p->mirostat_tau;
    s.mirostat_eta = p->mirostat_eta;
    s.samplers = common_sampler_types_from_names(std::vector<std::string>(p->samplers, p->samplers + p->n_samplers));
    for (int32_t i = 0; i < p->n_bias; ++i) {
        s.logit_bias.push_back({p->bias_tokens[i], p->bias_values[i]});
    }
    auto chain = std::make_unique<Chain>();
    chain->sampler = common_sampler_init(static_cast<llama_model *>(model), s);
    return chain.release();
}

void chain_free(void * chain) { delete static_cast<Chain *>(chain); }

void chain_accept(void * chain, int32_t token) {
    common_sampler_accept(static_cast<Chain *>(chain)->sampler, token, true);
}

int32_t chain_apply(void * chain, const float * row, int32_t n_vocab, int32_t * tokens, float * logits, int32_t * selected) {
    Chain & c = *static_cast<Chain *>(chain);
    llama_token_data_array array = fill(c.array, row, n_vocab);
    llama_sampler_apply(common_sampler_get(c.sampler), &array);
    for (size_t i = 0; i < array.size; ++i) {
        tokens[i] = array.data[i].id;
        logits[i] = array.data[i].logit;
    }
    *selected = static_cast<int32_t>(array.selected);
    return static_cast<int32_t>(array.size);
}

void chain_time(void * chain, const float * rows, int32_t n_rows, int32_t n_vocab, int32_t n_top, double * out) {
    Chain & c = *static_cast<Chain *>(chain);
    time_rows(rows, n_rows, n_vocab, out, [&](float * row) {
        llama_token_data_array array = fill(c.array, row, n_vocab);
        llama_sampler_apply(common_sampler_get(c.sampler), &array);
        common_sampler_accept(c.sampler, array.data[array.selected].id, true);
        if (n_top >= 0) {
            logprobs(c.sorted, row, n_vocab, n_top);
        }
    });
}

void chain_time_greedy(const float * rows, int32_t n_rows, int32_t n_vocab, double * out) {
    std::unique_ptr<llama_sampler, void (*)(llama_sampler *)> greedy(llama_sampler_init_greedy(), llama_sampler_free);
    std::vector<llama_token_data> all;
    time_rows(rows, n_rows, n_vocab, out, [&](float * row) {
        llama_token_data_array array = fill(all, row, n_vocab);
        llama_sampler_apply(greedy.get(), &array);
    });
}

void chain_time_ours(void * sample, void * sampler, const float * rows, int32_t n_rows, int32_t n_vocab, void * result,
                     double * out) {
    using Sample = int32_t (*)(void *, float *, int32_t, void *);
    const auto call = reinterpret_cast<Sample>(sample);
    time_rows(rows, n_rows, n_vocab, out, [&](float * row) { call(sampler, row, n_vocab, result); });
}

}  // extern "C"
