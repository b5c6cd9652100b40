#include "sampler.h"

#include "error.h"

#include <algorithm>
#include <cmath>

using namespace shimmy;

namespace {

const shimmy_sampler_params & checked(const shimmy_sampler_params & p) {
    require_param(std::isfinite(p.temperature) && p.temperature >= 0.0f, "temperature", "must be at least 0");
    require_param(p.top_k >= 0, "top_k", "must be at least 0");
    require_param(p.top_p >= 0.0f && p.top_p <= 1.0f, "top_p", "must be between 0 and 1");
    require_param(p.min_p >= 0.0f && p.min_p <= 1.0f, "min_p", "must be between 0 and 1");
    require_param(std::isfinite(p.repeat_penalty) && p.repeat_penalty > 0.0f, "repeat_penalty", "must be above 0");
    require_param(std::isfinite(p.presence_penalty), "presence_penalty", "must be finite");
    require_param(std::isfinite(p.frequency_penalty), "frequency_penalty", "must be finite");
    require_param(p.repeat_last_n >= 0, "repeat_last_n", "must be at least 0");
    require_param(p.n_logprobs >= -1 && p.n_logprobs <= SHIMMY_MAX_LOGPROBS, "n_logprobs", "must be -1..20");
    return p;
}

}  // namespace

shimmy_sampler::shimmy_sampler(const shimmy_sampler_params & params, int32_t n_vocab,
                               std::vector<std::pair<int32_t, float>> bias, const int32_t * history, int32_t n_history)
    : params_(checked(params)), n_vocab_(n_vocab), bias_(std::move(bias)), penalties_(params), random_(params.seed) {
    params_.bias_tokens = nullptr;  // the caller's; bias_ is the copy
    params_.bias_values = nullptr;
    require(n_history >= 0 && (history != nullptr || n_history == 0), "history does not fit n_history");
    for (int32_t i = std::max(0, n_history - params.repeat_last_n); i < n_history; ++i) {
        if (history[i] >= 0 && history[i] < n_vocab) {
            penalties_.accept(history[i]);
        }
    }
}

void shimmy_sampler::sample(float * logits, shimmy_sample & out) {
    out.flags = 0;
    out.logprob = 0.0f;
    out.n_top = 0;
    if (wants_logprobs()) {
        row_.scan(logits, n_vocab_);
        if (row_.finite()) {
            report_top(out);
        }
    }
    if (adjust(logits) || !wants_logprobs()) {
        row_.scan(logits, n_vocab_);
    }
    out.token = draw_allowed(logits);
    if (out.token < 0) {
        out.flags = refused_ ? constraint_->failure() : SHIMMY_TOKEN_NO_LOGITS;
        out.n_top = 0;
        return;
    }
    if (wants_logprobs()) {
        out.logprob = static_cast<float>(static_cast<double>(raw_logit(logits, out.token)) - log_sum_);
    }
    penalties_.accept(out.token);
    if (constraint_) {
        constraint_->accept(out.token);
    }
}

// The most likely tokens of the model itself, before any stage: what OpenAI clients mean by logprobs.
void shimmy_sampler::report_top(shimmy_sample & out) {
    log_sum_ = static_cast<double>(row_.max()) + std::log(row_.exp_sum(1.0f));
    if (params_.n_logprobs == 0) {
        return;
    }
    row_.largest(params_.n_logprobs, kept_);
    out.n_top = static_cast<int32_t>(kept_.size());
    for (size_t i = 0; i < kept_.size(); ++i) {
        out.top_tokens[i] = kept_[i].token;
        out.top_logprobs[i] = static_cast<float>(static_cast<double>(kept_[i].logit) - log_sum_);
    }
}

// Bias and penalties, in place; what the logits were before is kept for logprobs. Whether there was anything to change.
bool shimmy_sampler::adjust(float * logits) {
    raw_.clear();
    if (bias_.empty() && penalties_.counts().empty()) {
        return false;
    }
    if (wants_logprobs()) {
        for (const auto & entry : bias_) {
            raw_.emplace_back(entry.first, logits[entry.first]);
        }
        for (const auto & entry : penalties_.counts()) {
            raw_.emplace_back(entry.first, logits[entry.first]);
        }
    }
    for (const auto & entry : bias_) {
        logits[entry.first] += entry.second;
    }
    penalties_.apply(logits);
    return true;
}

float shimmy_sampler::raw_logit(const float * logits, int32_t token) const {
    for (const auto & entry : raw_) {
        if (entry.first == token) {
            return entry.second;
        }
    }
    return logits[token];
}

// Draws, and where the constraint refuses the token, draws once more from what it allows; -1 where there is nothing to draw.
int32_t shimmy_sampler::draw_allowed(float * logits) {
    refused_ = false;
    if (!row_.finite()) {
        return -1;
    }
    const int32_t token = draw();
    if (token < 0 || !constraint_ || constraint_->allows(token)) {
        return token;
    }
    refused_ = true;
    constraint_->mask(logits, n_vocab_);
    row_.scan(logits, n_vocab_);
    return row_.finite() ? draw() : -1;
}
