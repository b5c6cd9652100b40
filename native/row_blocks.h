// Sums and maxima of one block of a row, in lanes. A shorter block, at the end of a row, is filled up with -inf.
#pragma once

#include "lanes.h"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace shimmy {

constexpr int32_t block = 64;
constexpr float infinity = std::numeric_limits<float>::infinity();

// A whole block: `x` itself, or what is left of it with -inf behind.
class WholeBlock {
  public:
    WholeBlock(const float * x, int32_t n) : at(x) {
        if (n < block) {
            std::fill(std::copy(x, x + n, padded_), padded_ + block, -infinity);
            at = padded_;
        }
    }
    WholeBlock(const WholeBlock &) = delete;
    WholeBlock & operator=(const WholeBlock &) = delete;
    const float * at;

  private:
    float padded_[block];
};

// NaN is passed over.
inline float block_max(const float * x, int32_t n) {
    const WholeBlock whole(x, n);
    Lanes m;
    fill(m, -infinity);  // not the first values: a NaN must not be what others are compared with
    for (int32_t i = 0; i < block; i += lanes) {
        Lanes next;
        load(next, whole.at + i);
        keep_max(m, next);
    }
    return largest_lane(m);
}

// Sum of 2^((x - max) * scale) over n lanes' worth of logits.
inline __attribute__((always_inline)) float lanes_exp2_sum(const float * x, int32_t n, float max, float scale) {
    Lanes sums[4]{};
    for (int32_t i = 0; i < n; i += 4 * lanes) {
        for (int32_t k = 0; k < 4; ++k) {
            Lanes e;
            load(e, x + i + k * lanes);
            e = (e - max) * scale;
            exp2_nonpositive(e);
            sums[k] += e;
        }
    }
    return sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// The same over one block.
inline float block_exp2_sum(const float * x, int32_t n, float max, float scale) {
    const WholeBlock whole(x, n);
    return lanes_exp2_sum(whole.at, block, max, scale);
}

// Sums of w = exp(x - max) and of w (x - max). What is too unlikely for exp2_nonpositive counts for nothing in both.
inline void block_moments(const float * x, int32_t n, float max, float & w, float & wx) {
    const WholeBlock whole(x, n);
    Lanes sum{}, weighted{}, floor;
    fill(floor, -86.0f);
    for (int32_t i = 0; i < block; i += lanes) {
        Lanes d;
        load(d, whole.at + i);
        d = d - max;
        d = d > floor ? d : floor;
        Lanes e = d * log2_e;
        exp2_nonpositive(e);
        sum += e;
        weighted += e * d;
    }
    w = sum_lanes(sum);
    wx = sum_lanes(weighted);
}

// How many are above -inf, and the sums of their x - max and (x - max)^2.
inline void block_squares(const float * x, int32_t n, float max, float & count, float & sum, float & squares) {
    const WholeBlock whole(x, n);
    Lanes c{}, s{}, q{}, least, zero{}, one;
    fill(least, -infinity);
    fill(one, 1.0f);
    for (int32_t i = 0; i < block; i += lanes) {
        Lanes d;
        load(d, whole.at + i);
        const auto counts = d > least;
        c += counts ? one : zero;
        d = counts ? d - max : zero;
        s += d;
        q += d * d;
    }
    count = sum_lanes(c);
    sum = sum_lanes(s);
    squares = sum_lanes(q);
}

}  // namespace shimmy
