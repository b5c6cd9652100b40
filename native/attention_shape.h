// What of one attention node is the same for all of its queries, and how its work is divided: for row_attention.h.
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

// What of a node is the same for all of its queries.
struct AttentionShape {
    explicit AttentionShape(const ggml_tensor * node)
        : q(node->src[0]), k(node->src[1]), v(node->src[2]), mask(node->src[3]), sinks(node->src[4]), to(node),
          n_queries(q->ne[1]), n_heads(q->ne[2]), n_streams(q->ne[3]), heads_a_key(n_heads / k->ne[2]),
          groups_a_key((heads_a_key + most_heads - 1) / most_heads), n_groups(k->ne[2] * groups_a_key),
          n_units(n_streams * n_queries * n_groups) {
        float softcap;
        std::memcpy(&scale, node->op_params, sizeof scale);
        std::memcpy(&max_bias, node->op_params + 1, sizeof max_bias);
        std::memcpy(&softcap, node->op_params + 2, sizeof softcap);
        plain = softcap == 0.0f;
    }

    // How many threads work on one query's heads: more than one where there are few queries.
    int64_t parts(int n_threads) const {
        const int64_t wanted = (4 * n_threads + n_units - 1) / n_units;
        return std::max<int64_t>(1, std::min({wanted, static_cast<int64_t>(n_threads), k->ne[1] / least_cells}));
    }

    // Per head and part: largest, sum, values.
    size_t partial_size() const { return aligned(static_cast<size_t>(2 + v->ne[0]) * sizeof(float)); }
    size_t partials_size(int n_threads) const {
        return parts(n_threads) == 1 ? 0
                                     : static_cast<size_t>(n_streams * n_queries * n_heads * parts(n_threads)) * partial_size();
    }
    size_t scratch_size() const {
        return aligned(static_cast<size_t>(k->ne[1] + 16) * sizeof(int32_t)) + most_heads * 16 * sizeof(__m512) +
               most_heads * 16 * sizeof(float) + aligned(static_cast<size_t>(most_heads * k->ne[0]) * sizeof(float)) +
               aligned(static_cast<size_t>(most_heads * v->ne[0]) * sizeof(float));
    }

    const ggml_tensor *q, *k, *v, *mask, *sinks, *to;
    int64_t n_queries, n_heads, n_streams, heads_a_key, groups_a_key, n_groups, n_units;
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

}  // namespace shimmy

#endif
