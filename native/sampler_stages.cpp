// The stages and the draw of shimmy_sampler.
#include "sampler.h"

#include <algorithm>
#include <cmath>

using namespace shimmy;

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
