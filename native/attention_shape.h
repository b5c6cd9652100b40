// What of one attention node is the same for all of its queries, and which cells a query sees: for cpu_attention.h.
#pragma once

#include "simd_target.h"

#ifdef SHIMMY_PANELS

#include "attention_heads.h"
#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace shimmy {

constexpr int64_t least_cells = 64;  // that are worth another thread

inline size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// The next `count` of T in scratch memory, on a cache line of their own.
template <typename T> T * take(char *& at, size_t count) {
    auto * taken = reinterpret_cast<T *>(at);
    at += aligned(count * sizeof(T));
    return taken;
}

// What of a node is the same for all of its queries.
struct AttentionShape {
    explicit AttentionShape(const ggml_tensor * node)
        : q(node->src[0]), k(node->src[1]), v(node->src[2]), mask(node->src[3]), sinks(node->src[4]), to(node),
          n_queries(q->ne[1]), n_heads(q->ne[2]), n_streams(q->ne[3]), heads_a_key(n_heads / k->ne[2]),
          groups_a_key((heads_a_key + most_heads - 1) / most_heads), n_groups(k->ne[2] * groups_a_key) {
        float softcap;
        std::memcpy(&scale, node->op_params, sizeof scale);
        std::memcpy(&max_bias, node->op_params + 1, sizeof max_bias);
        std::memcpy(&softcap, node->op_params + 2, sizeof softcap);
        plain = softcap == 0.0f;
    }

    // How many threads share the cells of a unit of work, where there are `n` units.
    int64_t parts(int64_t n, int n_threads) const {
        const int64_t wanted = (4 * n_threads + n - 1) / n;
        return std::max<int64_t>(1, std::min({wanted, static_cast<int64_t>(n_threads), k->ne[1] / least_cells}));
    }

    // Per head and part: largest, sum, values.
    size_t partial_size() const { return aligned(static_cast<size_t>(2 + v->ne[0]) * sizeof(float)); }

    const ggml_tensor *q, *k, *v, *mask, *sinks, *to;
    int64_t n_queries, n_heads, n_streams, heads_a_key, groups_a_key, n_groups;
    float scale = 1.0f, max_bias = 0.0f;
    bool plain;
};

// ALiBi's slope of a head, as ggml computes it; 1 without it.
inline float slope_of(const AttentionShape & shape, int64_t head) {
    if (shape.max_bias <= 0.0f) {
        return 1.0f;
    }
    const auto n = static_cast<float>(1u << static_cast<uint32_t>(std::floor(std::log2(static_cast<double>(shape.n_heads)))));
    const float first = std::pow(2.0f, -shape.max_bias / n);
    const float second = std::pow(2.0f, -(shape.max_bias / 2.0f) / n);
    const auto at = static_cast<float>(head);
    return at < n ? std::pow(first, at + 1.0f) : std::pow(second, 2.0f * (at - n) + 1.0f);
}

// One head of the keys or values of one stream.
inline Cells16 cells_of(const ggml_tensor * tensor, int64_t key, int64_t stream) {
    const char * data = static_cast<const char *>(tensor->data) + static_cast<size_t>(key) * tensor->nb[2] +
                        static_cast<size_t>(stream) * tensor->nb[3];
    return {data, tensor->nb[1], tensor->ne[0]};
}

// A query's row of the node's mask.
inline const uint16_t * mask_row(const AttentionShape & shape, int64_t query, int64_t stream) {
    return reinterpret_cast<const uint16_t *>(
        static_cast<const char *>(shape.mask->data) + static_cast<size_t>(query) * shape.mask->nb[1] +
        static_cast<size_t>(stream % shape.mask->ne[3]) * shape.mask->nb[3]);
}

// Which of up to 32 cells from `at` on a mask's row of `n` lets see, and whether it holds more for them than "seen" and "not seen".
inline uint32_t seen_cells(const uint16_t * row, int32_t at, int32_t n, bool & weighted) {
    const __mmask32 in = n - at >= 32 ? ~__mmask32{0} : (__mmask32{1} << (n - at)) - 1;
    const __m512i halves = _mm512_maskz_loadu_epi16(in, row + at);
    const __mmask32 seen = _mm512_mask_cmpneq_epi16_mask(in, halves, _mm512_set1_epi16(static_cast<int16_t>(0xfc00)));  // -inf
    // Zero, or the zero with a sign: nothing is to be added to the scores.
    weighted |= _mm512_mask_test_epi16_mask(seen, halves, _mm512_set1_epi16(0x7fff)) != 0;
    return seen;
}

// Appends the numbers of the cells from `at` on whose bits are set; up to 32 places behind the last are overwritten.
inline void append_cells(int32_t * cells, int32_t & n_cells, int32_t at, uint32_t seen) {
    const __m512i ascending = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int half = 0; half < 2; ++half) {
        const auto some = static_cast<__mmask16>(seen >> (16 * half));
        const __m512i numbers = _mm512_add_epi32(ascending, _mm512_set1_epi32(at + 16 * half));
        _mm512_storeu_si512(cells + n_cells, _mm512_maskz_compress_epi32(some, numbers));
        n_cells += __builtin_popcount(some);
    }
}

}  // namespace shimmy

#endif
