#include "row.h"

#include "row_blocks.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace shimmy {

void Row::start(float * logits, int32_t n) {
    logits_ = base_ = logits;
    n_ = n;
    scanned_ = false;
    stale_.clear();
    changed_.clear();
}

void Row::set(int32_t token, float logit) {
    if (logits_ == base_) {
        changed_.emplace_back(token, logits_[token]);
    }
    logits_[token] = logit;
    if (scanned_) {
        stale_.push_back(token / block);
    }
}

void Row::divide(float divisor) {
    divided_.resize(static_cast<size_t>(n_));
    for (int32_t i = 0; i < n_; ++i) {
        divided_[static_cast<size_t>(i)] = logits_[i] / divisor;
    }
    logits_ = divided_.data();
    scanned_ = false;
}

float Row::original(int32_t token) const {
    for (const auto & change : changed_) {
        if (change.first == token) {
            return change.second;
        }
    }
    return base_[token];
}

void Row::restore() {
    for (auto change = changed_.rbegin(); change != changed_.rend(); ++change) {
        base_[change->first] = change->second;
    }
    start(base_, n_);
}

void Row::refresh() {
    if (scanned_ && stale_.empty()) {
        return;
    }
    const int32_t n_blocks = (n_ + block - 1) / block;
    const auto scan = [&](int32_t b) {
        blocks_[static_cast<size_t>(b)] = block_max(logits_ + b * block, std::min(block, n_ - b * block));
    };
    if (scanned_) {
        std::for_each(stale_.begin(), stale_.end(), scan);
    } else {
        blocks_.resize(static_cast<size_t>(n_blocks));
        for (int32_t b = 0; b < n_blocks; ++b) {
            scan(b);
        }
    }
    scanned_ = true;
    stale_.clear();
    max_ = -infinity;
    for (int32_t b = 0; b < n_blocks; b += block) {
        const float m = block_max(blocks_.data() + b, std::min(block, n_blocks - b));
        max_ = m > max_ ? m : max_;
    }
}

float Row::max() {
    refresh();
    return max_;
}

bool Row::finite() {
    refresh();
    return max_ > -infinity && max_ < infinity;
}

int32_t Row::argmax() {
    refresh();
    const auto b = std::find(blocks_.begin(), blocks_.end(), max_);
    if (b == blocks_.end()) {
        return -1;
    }
    const int32_t begin = static_cast<int32_t>(b - blocks_.begin()) * block;
    return static_cast<int32_t>(std::find(logits_ + begin, logits_ + std::min(begin + block, n_), max_) - logits_);
}

void Row::collect(float low, std::vector<Candidate> & out) {
    refresh();
    out.clear();
    for (size_t b = 0; b < blocks_.size(); ++b) {
        if (!(blocks_[b] >= low)) {
            continue;
        }
        const int32_t begin = static_cast<int32_t>(b) * block;
        const int32_t end = std::min(begin + block, n_);
        for (int32_t i = begin; i < end; ++i) {
            if (logits_[i] >= low && logits_[i] > -infinity) {
                out.push_back({i, logits_[i]});
            }
        }
    }
}

// The k-th largest block maximum is a lower bound for the k-th largest logit: k different tokens are at least as large.
void Row::select(int32_t k, std::vector<Candidate> & out) {
    refresh();
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
        std::nth_element(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(wanted - 1), out.end(), before);
        out.resize(wanted);
    }
}

void Row::largest(int32_t k, std::vector<Candidate> & out) {
    select(k, out);
    std::sort(out.begin(), out.end(), before);
}

// Finite, so that 0 / temperature stays 0 for the smallest temperatures.
static float inverse(float temperature) { return std::min(1.0f / temperature, std::numeric_limits<float>::max()); }

double Row::exp_sum(float temperature) {
    refresh();
    const float scale = inverse(temperature);
    double sum = 0.0;
    for (int32_t begin = 0; begin < n_; begin += block) {
        sum += static_cast<double>(block_exp_sum(logits_ + begin, std::min(block, n_ - begin), max_, scale));
    }
    return sum;
}

int32_t Row::walk(float temperature, double target) {
    refresh();
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

Moments Row::moments() {
    refresh();
    Moments out{0.0, 0.0};
    for (int32_t begin = 0; begin < n_; begin += block) {
        float w, wx;
        block_moments(logits_ + begin, std::min(block, n_ - begin), max_, w, wx);
        out.w += static_cast<double>(w);
        out.wx += static_cast<double>(wx);
    }
    return out;
}

double Row::deviation() {
    refresh();
    double n = 0.0, sum = 0.0, squares = 0.0;
    for (int32_t begin = 0; begin < n_; begin += block) {
        float count, x, xx;
        block_squares(logits_ + begin, std::min(block, n_ - begin), max_, count, x, xx);
        n += static_cast<double>(count);
        sum += static_cast<double>(x);
        squares += static_cast<double>(xx);
    }
    const double mean = sum / n;
    return std::sqrt(std::max(0.0, squares / n - mean * mean));
}

}  // namespace shimmy
