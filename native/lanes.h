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

// x = exp(x) for x <= 0, relative error below 3e-7: Cephes' expf, by reduction with ln 2 in two parts and a polynomial of degree 6.
// What is below -87, or no number, gives about 1e-38, which counts for nothing.
inline __attribute__((always_inline)) void exp_nonpositive(Lanes & x) {
    Lanes floor;
    fill(floor, -87.0f);
    x = x > floor ? x : floor;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding and taking it away rounds to the nearest integer
    const Lanes n = (x * 1.44269504088896341f + magic) - magic;
    const Lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const LaneBits bits = (__builtin_convertvector(n, LaneBits) + 127) << 23;
    Lanes scale;
    std::memcpy(&scale, &bits, sizeof scale);
    x = p * scale;
}

}  // namespace shimmy
