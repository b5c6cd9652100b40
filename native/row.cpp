#include "row.h"

#include "row_blocks.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace shimmy {

namespace {

constexpr int32_t stretch = 16 * block;  // summed up as floats in each lane; their sums are added as doubles

// Finite, so that 0 / temperature stays 0 for the smallest temperatures.
float inverse(float temperature) { return std::min(1.0f / temperature, std::numeric_limits<float>::max() / 2.0f); }

}  // namespace

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

// The k-th largest block maximum, a lower bound for the k-th largest logit: k different tokens are at least as large. A heap of the k
// largest so far is seldom touched, and so faster than a selection as long as k is a small part of all.
float Row::kth_block(size_t k) {
    if (k >= blocks_.size()) {
        return -infinity;
    }
    const auto kth = blocks_.begin() + static_cast<std::ptrdiff_t>(k);
    if (k > blocks_.size() / 8) {
        order_ = blocks_;
        const auto nth = order_.begin() + static_cast<std::ptrdiff_t>(k - 1);
        std::nth_element(order_.begin(), nth, order_.end(), std::greater<float>());
        return *nth;
    }
    order_.assign(blocks_.begin(), kth);
    std::make_heap(order_.begin(), order_.end(), std::greater<float>());
    for (auto b = kth; b != blocks_.end(); ++b) {
        if (*b > order_.front()) {
            std::pop_heap(order_.begin(), order_.end(), std::greater<float>());
            order_.back() = *b;
            std::push_heap(order_.begin(), order_.end(), std::greater<float>());
        }
    }
    return order_.front();
}

void Row::select(int32_t k, std::vector<Candidate> & out) {
    refresh();
    const size_t wanted = static_cast<size_t>(std::max<int32_t>(k, 1));
    collect(kth_block(wanted), out);
    if (out.size() > wanted) {
        std::nth_element(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(wanted - 1), out.end(), before);
        out.resize(wanted);
    }
}

void Row::largest(int32_t k, std::vector<Candidate> & out) {
    select(k, out);
    std::sort(out.begin(), out.end(), before);
}

double Row::exp_sum(float temperature) {
    refresh();
    const float scale = inverse(temperature) * log2_e;
    double sum = 0.0;
    int32_t begin = 0;
    for (; begin + stretch <= n_; begin += stretch) {
        sum += static_cast<double>(lanes_exp2_sum(logits_ + begin, stretch, max_, scale));
    }
    for (; begin < n_; begin += block) {
        sum += static_cast<double>(block_exp2_sum(logits_ + begin, std::min(block, n_ - begin), max_, scale));
    }
    return sum;
}

int32_t Row::walk(float temperature, double target) {
    refresh();
    const float scale = inverse(temperature);
    const float scale2 = scale * log2_e;
    double sum = 0.0;
    int32_t last = -1;
    for (int32_t begin = 0; begin < n_; begin += block) {
        const int32_t n = std::min(block, n_ - begin);
        const double of_block = static_cast<double>(block_exp2_sum(logits_ + begin, n, max_, scale2));
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
