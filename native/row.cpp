#include "row.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

namespace shimmy {

namespace {

constexpr int32_t block = 64;
constexpr int32_t lanes = 16;
constexpr float infinity = std::numeric_limits<float>::infinity();

// Written lane by lane because compilers do not vectorise a float maximum by themselves.
// A NaN compares false and is passed over.
float block_max(const float * x) {
    float m[lanes];
    for (int32_t j = 0; j < lanes; ++j) {
        m[j] = -infinity;
    }
    for (int32_t i = 0; i < block; i += lanes) {
        for (int32_t j = 0; j < lanes; ++j) {
            m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
        }
    }
    for (int32_t width = lanes / 2; width > 0; width /= 2) {
        for (int32_t j = 0; j < width; ++j) {
            m[j] = m[j + width] > m[j] ? m[j + width] : m[j];
        }
    }
    return m[0];
}

// exp(x) for x <= 0, relative error below 3e-7 (Cephes' expf: range reduction by ln 2 in two parts and a polynomial of
// degree 6). Branch-free, so that loops over it vectorise. Below -87 it gives about 1e-38, which counts for nothing; -inf too.
inline float exp_nonpositive(float x) {
    x = x > -87.0f ? x : -87.0f;
    const float n = std::floor(x * 1.44269504088896341f + 0.5f);
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

bool before(const Candidate & a, const Candidate & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
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

double Row::exp_sum(float temperature) const {
    const float scale = 1.0f / temperature;
    double sum = 0.0;
    for (int32_t begin = 0; begin < n_; begin += block) {
        const int32_t end = std::min(begin + block, n_);
        if (end - begin == block) {
            float part[lanes] = {};
            for (int32_t i = begin; i < end; i += lanes) {
                for (int32_t j = 0; j < lanes; ++j) {
                    part[j] += exp_nonpositive((logits_[i + j] - max_) * scale);
                }
            }
            for (const float p : part) {
                sum += static_cast<double>(p);
            }
        } else {
            for (int32_t i = begin; i < end; ++i) {
                sum += static_cast<double>(exp_nonpositive((logits_[i] - max_) * scale));
            }
        }
    }
    return sum;
}

int32_t Row::walk(float temperature, double target) const {
    const float scale = 1.0f / temperature;
    double sum = 0.0;
    int32_t last = -1;
    for (int32_t i = 0; i < n_; ++i) {
        if (!(logits_[i] > -infinity)) {
            continue;
        }
        last = i;
        sum += static_cast<double>(exp_nonpositive((logits_[i] - max_) * scale));
        if (sum >= target) {
            return i;
        }
    }
    return last;
}

void sort_candidates(std::vector<Candidate> & candidates) { std::sort(candidates.begin(), candidates.end(), before); }

}  // namespace shimmy
