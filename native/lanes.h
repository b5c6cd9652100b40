// Sixteen floats at once, by the vector extensions of GCC and Clang: whatever SIMD the target has is used, and none is needed.
// Written out because neither compiler vectorises a float maximum or an exponential by itself without changing what NaN means.
#pragma once

#include <cstdint>
#include <cstring>

namespace shimmy {

constexpr int32_t lanes = 16;

typedef float Lanes __attribute__((vector_size(lanes * sizeof(float))));
typedef float HalfLanes __attribute__((vector_size(lanes / 2 * sizeof(float))));
typedef float QuarterLanes __attribute__((vector_size(lanes / 4 * sizeof(float))));
typedef int32_t LaneBits __attribute__((vector_size(lanes * sizeof(int32_t))));

inline __attribute__((always_inline)) void load(Lanes & out, const float * from) { std::memcpy(&out, from, sizeof out); }

inline __attribute__((always_inline)) void fill(Lanes & out, float value) { out = Lanes{} + value; }

// m = max(m, x); a NaN in x compares false and is passed over.
inline __attribute__((always_inline)) void keep_max(Lanes & m, const Lanes & x) { m = x > m ? x : m; }

// Lane by lane access is slow, so both halve the vector until four lanes are left.
template <typename Combine>
inline __attribute__((always_inline)) float reduce_lanes(const Lanes & x, Combine && combine) {
    HalfLanes a, b;
    std::memcpy(&a, &x, sizeof a);
    std::memcpy(&b, reinterpret_cast<const char *>(&x) + sizeof a, sizeof b);
    combine(a, b);
    QuarterLanes c, d;
    std::memcpy(&c, &a, sizeof c);
    std::memcpy(&d, reinterpret_cast<const char *>(&a) + sizeof c, sizeof d);
    combine(c, d);
    float e = c[0], f = c[1];
    combine(e, c[2]);
    combine(f, c[3]);
    combine(e, f);
    return e;
}

inline float largest_lane(const Lanes & x) {
    return reduce_lanes(x, [](auto & a, const auto & b) { a = b > a ? b : a; });
}

inline float sum_lanes(const Lanes & x) {
    return reduce_lanes(x, [](auto & a, const auto & b) { a += b; });
}

constexpr float log2_e = 1.44269504088896341f;

// x = 2^x for x <= 0, relative error below 3e-7: the Taylor polynomial of degree 6 between -1/2 and 1/2, times a power of two that is
// added to the exponent's bits. What is below -125, or no number, gives about 1e-38, which counts for nothing.
inline __attribute__((always_inline)) void exp2_nonpositive(Lanes & x) {
    Lanes floor;
    fill(floor, -125.0f);
    x = x > floor ? x : floor;
    const Lanes shifted = x + 12582912.0f;  // 1.5 * 2^23: its lowest bits are the nearest integer
    const Lanes f = x - (shifted - 12582912.0f);
    Lanes p = f * 1.540353039e-4f + 1.333355815e-3f;
    p = p * f + 9.618129108e-3f;
    p = p * f + 5.550410866e-2f;
    p = p * f + 2.402265070e-1f;
    p = p * f + 6.931471806e-1f;
    p = p * f + 1.0f;
    LaneBits exponent, bits;
    std::memcpy(&exponent, &shifted, sizeof exponent);
    std::memcpy(&bits, &p, sizeof bits);
    bits += exponent << 23;
    std::memcpy(&x, &bits, sizeof x);
}

}  // namespace shimmy
