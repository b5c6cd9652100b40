#include "row.h"

#include "lanes.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace shimmy {

namespace {

constexpr int32_t block = 64;
constexpr float infinity = std::numeric_limits<float>::infinity();

float block_max(const float * x) {
    Lanes m;
    fill(m, -infinity);  // not the first values: a NaN must not be what others are compared with
    for (int32_t i = 0; i < block; i += lanes) {
        Lanes next;
        load(next, x + i);
        keep_max(m, next);
    }
    return largest_lane(m);
}

// Sum of exp((x - max) * scale) over `n` <= block logits.
float block_exp_sum(const float * x, int32_t n, float max, float scale) {
    float padded[block];
    if (n < block) {
        std::fill(padded, padded + block, -infinity);
        std::copy(x, x + n, padded);
        x = padded;
    }
    Lanes sum{};
    for (int32_t i = 0; i < block; i += lanes) {
        Lanes e;
        load(e, x + i);
        e = (e - max) * scale;
        exp_nonpositive(e);
        sum += e;
    }
    return sum_lanes(sum);
}

}  // namespace

void Row::scan(const float * logits, int32_t n) {
    logits_ = logits;
    n_ = n;
    const int32_t whole = n / block;
    blocks_.resize(static_cast<size_t>((n + block - 1) / block));
    for (int32_t b = 0; b < whole; ++b) {
        blocks_[static_cast<size_t>(b)] = block_max(logits + b * block);
    }
    if (whole * block < n) {
        float m = -infinity;
        for (int32_t i = whole * block; i < n; ++i) {
            m = logits[i] > m ? logits[i] : m;
        }
        blocks_.back() = m;
    }
    max_ = -infinity;
    for (const float m : blocks_) {
        max_ = m > max_ ? m : max_;
    }
}

bool Row::finite() const { return max_ > -infinity && max_ < infinity; }

int32_t Row::argmax() const {
    for (size_t b = 0; b < blocks_.size(); ++b) {
        if (blocks_[b] == max_) {
            const int32_t begin = static_cast<int32_t>(b) * block;
            const int32_t end = std::min(begin + block, n_);
            for (int32_t i = begin; i < end; ++i) {
                if (logits_[i] == max_) {
                    return i;
                }
            }
        }
    }
    return -1;
}

void Row::collect(float threshold, std::vector<Candidate> & out) const {
    out.clear();
    for (size_t b = 0; b < blocks_.size(); ++b) {
        if (!(blocks_[b] >= threshold)) {
            continue;
        }
        const int32_t begin = static_cast<int32_t>(b) * block;
        const int32_t end = std::min(begin + block, n_);
        for (int32_t i = begin; i < end; ++i) {
            if (logits_[i] >= threshold && logits_[i] > -infinity) {
                out.push_back({i, logits_[i]});
            }
        }
    }
}

// The k-th largest block maximum is a lower bound for the k-th largest logit: k different tokens are at least as large.
void Row::largest(int32_t k, std::vector<Candidate> & out) {
    const size_t wanted = static_cast<size_t>(std::max<int32_t>(k, 1));
    float threshold = -infinity;
    if (wanted < blocks_.size()) {
        order_ = blocks_;
        const auto nth = order_.begin() + static_cast<std::ptrdiff_t>(wanted - 1);
        std::nth_element(order_.begin(), nth, order_.end(), std::greater<float>());
        threshold = *nth;
    }
    collect(threshold, out);
    if (out.size() > wanted) {
        std::partial_sort(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(wanted), out.end(), before);
        out.resize(wanted);
    } else {
        std::sort(out.begin(), out.end(), before);
    }
}

// Finite, so that 0 / temperature stays 0 for the smallest temperatures.
static float inverse(float temperature) {
    return std::min(1.0f / temperature, std::numeric_limits<float>::max());
}

double Row::exp_sum(float temperature) const {
    const float scale = inverse(temperature);
    double sum = 0.0;
    for (int32_t begin = 0; begin < n_; begin += block) {
        sum += static_cast<double>(block_exp_sum(logits_ + begin, std::min(block, n_ - begin), max_, scale));
    }
    return sum;
}

int32_t Row::walk(float temperature, double target) const {
    const float scale = inverse(temperature);
    double sum = 0.0;
    int32_t last = -1;
    for (int32_t begin = 0; begin < n_; begin += block) {
        const int32_t n = std::min(block, n_ - begin);
        const double of_block = static_cast<double>(block_exp_sum(logits_ + begin, n, max_, scale));
        if (sum + of_block < target) {
            sum += of_block;
            continue;
        }
        for (int32_t i = begin; i < begin + n; ++i) {
            if (logits_[i] > -infinity) {
                last = i;
                sum += std::exp(static_cast<double>((logits_[i] - max_) * scale));
                if (sum >= target) {
                    return i;
                }
            }
        }
        if (last >= 0) {
            return last;  // the two ways of adding up differ in their last bits
        }
    }
    return argmax();
}

bool before(const Candidate & a, const Candidate & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

void sort_candidates(std::vector<Candidate> & candidates) { std::sort(candidates.begin(), candidates.end(), before); }

}  // namespace shimmy
