// Where the results of one attention node go: into the node, or into partial sums first where several threads share a query's cells.
#pragma once

#include "simd_target.h"

#ifdef SHIMMY_PANELS

#include "attention_heads.h"
#include "attention_shape.h"

#include <algorithm>
#include <cmath>

namespace shimmy {

class AttentionOutput {
  public:
    // `partials` has room for `parts` of each head of each query where there are several; it is not owned.
    AttentionOutput(const AttentionShape & shape, int64_t parts, char * partials)
        : shape_(shape), parts_(parts), partials_(partials) {}

    int64_t parts() const { return parts_; }

    // The softmax and the weighted sums of one part of a query's cells.
    void put(HeadState state, const float * values, int64_t head, int64_t query, int64_t stream, int64_t part) const {
        if (parts_ == 1) {
            finish(state, values, head, query, stream);
            return;
        }
        auto * to = reinterpret_cast<float *>(partial(head, query, stream, part));
        to[0] = state.largest;
        to[1] = state.sum;
        std::copy_n(values, shape_.v->ne[0], to + 2);
    }

    // All parts of one head of one query together; `values` is scratch for one result.
    void combine(int64_t head, int64_t query, int64_t stream, float * values) const {
        HeadState all{-INFINITY, 0.0f};
        const int64_t n = shape_.v->ne[0];
        std::fill_n(values, n, 0.0f);
        for (int64_t part = 0; part < parts_; ++part) {
            const auto * from = reinterpret_cast<const float *>(partial(head, query, stream, part));
            if (from[0] == -INFINITY) {
                continue;
            }
            const float largest = std::max(all.largest, from[0]);
            const float shrink = std::exp2(all.largest - largest), grow = std::exp2(from[0] - largest);
            for (int64_t i = 0; i < n; ++i) {
                values[i] = values[i] * shrink + from[2 + i] * grow;
            }
            all = {largest, all.sum * shrink + from[1] * grow};
        }
        finish(all, values, head, query, stream);
    }

  private:
    char * partial(int64_t head, int64_t query, int64_t stream, int64_t part) const {
        const int64_t row = (stream * shape_.n_queries + query) * shape_.n_heads + head;
        return partials_ + static_cast<size_t>(row * parts_ + part) * shape_.partial_size();
    }

    void finish(HeadState state, const float * values, int64_t head, int64_t query, int64_t stream) const {
        float shrink = 1.0f;
        if (shape_.sinks) {
            const float sink = static_cast<const float *>(shape_.sinks->data)[head] * log2_e;
            const float largest = std::max(state.largest, sink);
            shrink = std::exp2(state.largest - largest);
            state.sum = state.sum * shrink + std::exp2(sink - largest);
        }
        const float factor = state.sum == 0.0f ? 0.0f : shrink / state.sum;
        const ggml_tensor * to = shape_.to;
        auto * out = reinterpret_cast<float *>(
            static_cast<char *>(to->data) +
            static_cast<size_t>((stream * to->ne[2] + query) * to->ne[1] + head) * to->nb[1]);
        for (int64_t i = 0; i < shape_.v->ne[0]; ++i) {
            out[i] = values[i] * factor;
        }
    }

    const AttentionShape & shape_;
    int64_t parts_;
    char * partials_;
};

}  // namespace shimmy

#endif
