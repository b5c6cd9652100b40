// The C ABI of samplers: shimmy_sampler_* (sampler.cpp does the work).
#include "error.h"
#include "model.h"
#include "sampler.h"
#include "shimmy.h"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

using namespace shimmy;

namespace {

// The request's biases, the file's suppressed tokens, and with ignore_eos all tokens that end a generation.
std::vector<std::pair<int32_t, float>> biases(const shimmy_model & model, const shimmy_sampler_params & p) {
    constexpr float never = -std::numeric_limits<float>::infinity();
    require(p.n_bias >= 0 && (p.n_bias == 0 || (p.bias_tokens != nullptr && p.bias_values != nullptr)), "bias is NULL");
    std::vector<std::pair<int32_t, float>> out;
    for (int32_t i = 0; i < p.n_bias; ++i) {
        require_param(p.bias_tokens[i] >= 0 && p.bias_tokens[i] < model.n_vocab, "logit_bias", "has a token outside the vocabulary");
        require_param(!std::isnan(p.bias_values[i]) && p.bias_values[i] < std::numeric_limits<float>::infinity(), "logit_bias",
                      "has a value that is no number, or too large for one");
        out.emplace_back(p.bias_tokens[i], p.bias_values[i]);
    }
    int32_t n_suppressed = 0;
    const llama_token * suppressed = llama_vocab_get_suppress_tokens(model.vocab, &n_suppressed);
    for (int32_t i = 0; i < n_suppressed; ++i) {
        if (suppressed[i] >= 0 && suppressed[i] < model.n_vocab) {
            out.emplace_back(suppressed[i], never);
        }
    }
    if (p.ignore_eos) {
        for (const int32_t token : model.end_tokens) {
            out.emplace_back(token, never);
        }
    }
    return out;
}

}  // namespace

extern "C" {

void shimmy_sampler_default_params(shimmy_sampler_params * out) {
    *out = shimmy_sampler_params{};
    out->temperature = 1.0f;
    out->dynatemp_exponent = 1.0f;
    out->top_p = 1.0f;
    out->typical_p = 1.0f;
    out->xtc_threshold = 0.1f;
    out->repeat_penalty = 1.0f;
    out->dry_base = 1.75f;
    out->dry_allowed_length = 2;
    out->mirostat_tau = 5.0f;
    out->mirostat_eta = 0.1f;
    out->n_logprobs = -1;
}

int32_t shimmy_sampler_new(const shimmy_model * model, const shimmy_sampler_params * params, const int32_t * history,
                           int32_t n_history, shimmy_sampler ** out) {
    return guarded([&] {
        require(model != nullptr && params != nullptr && out != nullptr, "a pointer is NULL");
        check_sampler_params(*params);  // before anything is looked up for them
        *out = new shimmy_sampler(*params, model->n_vocab, biases(*model, *params),
                                  model->dry_breakers.find(model->vocab, dry_breaker_texts(*params)), history, n_history);
    });
}

int32_t shimmy_sampler_look_up(shimmy_sampler * sampler, const int32_t * text, int32_t n_text) {
    return guarded([&] {
        require(sampler != nullptr && n_text >= 0 && (text != nullptr || n_text == 0), "a pointer is NULL");
        sampler->look_up(std::make_unique<Lookup>(text, static_cast<size_t>(n_text)));
    });
}

int32_t shimmy_sampler_limit_reasoning(shimmy_sampler * sampler, const shimmy_model * model, const char * start,
                                       const char * const * ends, int32_t n_ends, bool begun, int64_t budget,
                                       const int32_t * closing, int32_t n_closing) {
    return guarded([&] {
        require(sampler != nullptr && model != nullptr && start != nullptr, "a pointer is NULL");
        require(n_ends > 0 && ends != nullptr && n_closing > 0 && closing != nullptr, "reasoning must have an end");
        require(budget >= 0, "budget must be 0 or more");
        require(model->n_vocab == sampler->n_vocab(), "the sampler was made for another model");
        Reasoning reasoning{start, {}, begun};
        for (int32_t i = 0; i < n_ends; ++i) {
            require(ends[i] != nullptr && ends[i][0] != '\0', "an end of reasoning is nothing");
            reasoning.ends.emplace_back(ends[i]);
        }
        for (int32_t i = 0; i < n_closing; ++i) {
            require(closing[i] >= 0 && closing[i] < model->n_vocab, "closing has a token outside the vocabulary");
        }
        sampler->limit_reasoning(std::make_unique<ReasoningBudget>(model->texts(), std::move(reasoning), budget,
                                                                   std::vector<int32_t>(closing, closing + n_closing)));
    });
}

int32_t shimmy_sampler_propose(const shimmy_sampler * sampler, int32_t n, int32_t * tokens, float * chances, int32_t * n_out) {
    return guarded([&] {
        require(sampler != nullptr && n >= 0 && tokens != nullptr && chances != nullptr && n_out != nullptr, "a pointer is NULL");
        const Lookup * lookup = sampler->lookup();
        *n_out = lookup == nullptr ? 0 : static_cast<int32_t>(lookup->propose(static_cast<size_t>(n), tokens, chances));
    });
}

void shimmy_sampler_free(shimmy_sampler * sampler) { delete sampler; }

int32_t shimmy_sampler_sample(shimmy_sampler * sampler, float * logits, int32_t n_vocab, shimmy_sample * out) {
    return guarded([&] {
        require(sampler != nullptr && logits != nullptr && out != nullptr, "a pointer is NULL");
        require(n_vocab == sampler->n_vocab(), "the row is not as wide as the vocabulary");
        sampler->sample(logits, *out);
    });
}

int32_t shimmy_sampler_survivors(shimmy_sampler * sampler, float * logits, int32_t n_vocab, int32_t * tokens, float * values,
                                 int32_t * n_out) {
    return guarded([&] {
        require(sampler != nullptr && logits != nullptr && tokens != nullptr && values != nullptr && n_out != nullptr,
                "a pointer is NULL");
        require(n_vocab == sampler->n_vocab(), "the row is not as wide as the vocabulary");
        *n_out = 0;
        for (const Candidate & c : sampler->survivors(logits)) {
            tokens[*n_out] = c.token;
            values[*n_out] = c.logit;
            ++*n_out;
        }
    });
}

}  // extern "C"
