#include "sampler.h"

#include "error.h"
#include "model.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace shimmy;

shimmy_sampler::shimmy_sampler(const shimmy_sampler_params & params, int32_t n_vocab,
                               std::vector<std::pair<int32_t, float>> bias, const int32_t * history, int32_t n_history)
    : params_(params), n_vocab_(n_vocab), bias_(std::move(bias)), random_(params.seed) {
    params_.bias_tokens = nullptr;  // the caller's; bias_ is the copy
    params_.bias_values = nullptr;
    require_param(std::isfinite(params.temperature) && params.temperature >= 0.0f, "temperature", "must be at least 0");
    require_param(params.top_k >= 0, "top_k", "must be at least 0");
    require_param(params.top_p >= 0.0f && params.top_p <= 1.0f, "top_p", "must be between 0 and 1");
    require_param(params.min_p >= 0.0f && params.min_p <= 1.0f, "min_p", "must be between 0 and 1");
    require_param(std::isfinite(params.repeat_penalty) && params.repeat_penalty > 0.0f, "repeat_penalty", "must be above 0");
    require_param(std::isfinite(params.presence_penalty), "presence_penalty", "must be finite");
    require_param(std::isfinite(params.frequency_penalty), "frequency_penalty", "must be finite");
    require_param(params.repeat_last_n >= 0, "repeat_last_n", "must be at least 0");
    require_param(params.n_logprobs >= -1 && params.n_logprobs <= SHIMMY_MAX_LOGPROBS, "n_logprobs", "must be -1..20");
    require(n_history >= 0 && (history != nullptr || n_history == 0), "history does not fit n_history");
    if (penalizes()) {
        for (int32_t i = std::max(0, n_history - params.repeat_last_n); i < n_history; ++i) {
            accept(history[i]);
        }
    }
}

bool shimmy_sampler::penalizes() const {
    return params_.repeat_last_n > 0 && (params_.repeat_penalty != 1.0f || params_.presence_penalty != 0.0f ||
                                         params_.frequency_penalty != 0.0f);
}

void shimmy_sampler::sample(float * logits, shimmy_sample & out) {
    out.flags = 0;
    out.logprob = 0.0f;
    out.n_top = 0;
    bool scanned = false;
    std::vector<std::pair<int32_t, float>> raw;
    if (wants_logprobs()) {
        row_.scan(logits, n_vocab_);
        scanned = true;
        if (!row_.finite()) {
            out.token = -1;
            out.flags = SHIMMY_TOKEN_NO_LOGITS;
            return;
        }
        report_top(out);
    }
    if (!bias_.empty() || !counts_.empty()) {
        if (wants_logprobs()) {  // the raw logits of what is about to change
            for (const auto & entry : bias_) {
                raw.emplace_back(entry.first, logits[entry.first]);
            }
            for (const auto & entry : counts_) {
                raw.emplace_back(entry.first, logits[entry.first]);
            }
        }
        apply_bias(logits);
        apply_penalties(logits);
        scanned = false;
    }
    if (!scanned) {
        row_.scan(logits, n_vocab_);
    }
    out.token = row_.finite() ? draw() : -1;
    if (out.token < 0) {
        out.flags = SHIMMY_TOKEN_NO_LOGITS;
        return;
    }
    if (wants_logprobs()) {
        float logit = logits[out.token];
        for (const auto & entry : raw) {
            if (entry.first == out.token) {
                logit = entry.second;
                break;
            }
        }
        out.logprob = static_cast<float>(static_cast<double>(logit) - log_sum_);
    }
    if (penalizes()) {
        accept(out.token);
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

void shimmy_sampler::apply_bias(float * logits) const {
    for (const auto & entry : bias_) {
        logits[entry.first] += entry.second;
    }
}

// llama_sampler_penalties_apply: the repeat penalty moves a logit towards "less likely" whatever its sign.
void shimmy_sampler::apply_penalties(float * logits) const {
    for (const auto & entry : counts_) {
        float & logit = logits[entry.first];
        logit = logit <= 0.0f ? logit * params_.repeat_penalty : logit / params_.repeat_penalty;
        logit -= static_cast<float>(entry.second) * params_.frequency_penalty + params_.presence_penalty;
    }
}

int32_t shimmy_sampler::draw() {
    if (params_.temperature <= 0.0f || params_.top_k == 1) {
        return row_.argmax();
    }
    const bool top_k = params_.top_k > 0 && params_.top_k < n_vocab_;
    const bool top_p = params_.top_p < 1.0f;
    const bool min_p = params_.min_p > 0.0f;
    if (top_k) {
        keep_top_k();
        if (top_p) {
            keep_top_p();
        }
    } else if (top_p) {
        keep_top_p_of_row();
    } else if (min_p) {
        row_.collect(row_.max() + std::log(params_.min_p), kept_);
        sort_candidates(kept_);
    } else {
        return draw_from_row();
    }
    if (min_p) {
        keep_min_p();
    }
    return draw_kept();
}

void shimmy_sampler::keep_top_k() { row_.largest(params_.top_k, kept_); }

// llama_sampler_top_p_apply over survivors of an earlier stage: softmax over them, keep until the sum reaches p.
void shimmy_sampler::keep_top_p() {
    const float max = kept_.front().logit;
    double sum = 0.0;
    weights_.clear();
    for (const Candidate & c : kept_) {
        weights_.push_back(std::exp(static_cast<double>(c.logit - max)));
        sum += weights_.back();
    }
    const double wanted = static_cast<double>(params_.top_p) * sum;
    double reached = 0.0;
    for (size_t i = 0; i < kept_.size(); ++i) {
        reached += weights_[i];
        if (reached >= wanted) {
            kept_.resize(i + 1);
            break;
        }
    }
}

// The same over the whole row. What lies so deep that all of the row could not hold 1 - p of the sum there is left out at once;
// among the rest a selection by weight finds the cut, so that only the survivors are ever sorted.
void shimmy_sampler::keep_top_p_of_row() {
    const double sum = row_.exp_sum(1.0f);
    const double outside = (1.0 - static_cast<double>(params_.top_p)) * sum;
    const double depth = std::min(std::log(static_cast<double>(n_vocab_) / std::max(outside, 1e-30)), 80.0);
    row_.collect(row_.max() - static_cast<float>(depth), kept_);
    cut_by_weight(static_cast<double>(params_.top_p) * sum);
    sort_candidates(kept_);
}

// Keeps the fewest of kept_, most likely first, whose exp(logit - max) reach `wanted`: quickselect with weights, linear time.
void shimmy_sampler::cut_by_weight(double wanted) {
    const float max = row_.max();
    size_t low = 0;
    size_t high = kept_.size();
    double reached = 0.0;  // by what is before `low`, all of which is kept
    while (high - low > 1) {
        const Candidate a = kept_[low];
        const Candidate b = kept_[low + (high - low) / 2];
        const Candidate c = kept_[high - 1];
        const Candidate pivot = before(a, b) ? (before(b, c) ? b : (before(a, c) ? c : a))
                                             : (before(a, c) ? a : (before(b, c) ? c : b));
        double upper = 0.0;
        size_t middle = low;
        for (size_t i = low; i < high; ++i) {
            if (!before(pivot, kept_[i])) {
                upper += static_cast<double>(std::exp(kept_[i].logit - max));
                std::swap(kept_[i], kept_[middle++]);
            }
        }
        if (reached + upper < wanted) {
            reached += upper;
            low = middle;
        } else if (middle < high) {
            high = middle;
        } else {  // the pivot is the last of the range: it alone is left to decide on
            std::iter_swap(std::find_if(kept_.begin() + static_cast<std::ptrdiff_t>(low),
                                        kept_.begin() + static_cast<std::ptrdiff_t>(high),
                                        [&](const Candidate & x) { return x.token == pivot.token; }),
                           kept_.begin() + static_cast<std::ptrdiff_t>(high - 1));
            const double rest = upper - static_cast<double>(std::exp(pivot.logit - max));
            if (reached + rest < wanted) {
                break;
            }
            --high;
        }
    }
    kept_.resize(std::max<size_t>(high, 1));
}

// llama_sampler_min_p_apply: keep what has at least min_p of the most likely token's probability.
void shimmy_sampler::keep_min_p() {
    const float threshold = kept_.front().logit + std::log(params_.min_p);
    size_t n = 1;
    while (n < kept_.size() && kept_[n].logit >= threshold) {
        ++n;
    }
    kept_.resize(n);
}

int32_t shimmy_sampler::draw_kept() {
    const float max = kept_.front().logit;
    const double scale = 1.0 / static_cast<double>(params_.temperature);
    double sum = 0.0;
    weights_.clear();
    for (const Candidate & c : kept_) {
        weights_.push_back(std::exp(static_cast<double>(c.logit - max) * scale));
        sum += weights_.back();
    }
    double left = uniform() * sum;
    for (size_t i = 0; i < kept_.size(); ++i) {
        left -= weights_[i];
        if (left <= 0.0) {
            return kept_[i].token;
        }
    }
    return kept_.back().token;
}

int32_t shimmy_sampler::draw_from_row() {
    return row_.walk(params_.temperature, uniform() * row_.exp_sum(params_.temperature));
}

// In (0, 1), 32 bits: never 0, so that a token of probability 0 is not drawn.
double shimmy_sampler::uniform() { return (static_cast<double>(random_()) + 0.5) / 4294967296.0; }

void shimmy_sampler::accept(int32_t token) {
    if (token < 0 || token >= n_vocab_) {
        return;
    }
    window_.push_back(token);
    ++counts_[token];
    if (window_.size() > static_cast<size_t>(params_.repeat_last_n)) {
        const auto oldest = counts_.find(window_.front());
        if (--oldest->second == 0) {
            counts_.erase(oldest);
        }
        window_.pop_front();
    }
}

namespace {

// The request's biases, the file's suppressed tokens, and with ignore_eos all tokens that end a generation.
std::vector<std::pair<int32_t, float>> biases(const shimmy_model & model, const shimmy_sampler_params & p) {
    constexpr float never = -std::numeric_limits<float>::infinity();
    require(p.n_bias >= 0 && (p.n_bias == 0 || (p.bias_tokens != nullptr && p.bias_values != nullptr)), "bias is NULL");
    std::vector<std::pair<int32_t, float>> out;
    for (int32_t i = 0; i < p.n_bias; ++i) {
        require(p.bias_tokens[i] >= 0 && p.bias_tokens[i] < model.n_vocab, "a biased token is outside the vocabulary");
        require(!std::isnan(p.bias_values[i]) && p.bias_values[i] < std::numeric_limits<float>::infinity(),
                "a bias is not a number");
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

int32_t shimmy_sampler_new(const shimmy_model * model, const shimmy_sampler_params * params, const int32_t * history,
                           int32_t n_history, shimmy_sampler ** out) {
    return guarded([&] {
        require(model != nullptr && params != nullptr && out != nullptr, "a pointer is NULL");
        *out = new shimmy_sampler(*params, model->n_vocab, biases(*model, *params), history, n_history);
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

}  // extern "C"
