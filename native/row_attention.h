// Attention of single queries over 16-bit keys and values: what decoding needs, where each query sees cells of its own. ggml looks at every
// cell of the cache for every head, adds in 16 bits and turns each key into floats once a head; here the cells that a query sees are
// listed first, and the heads that share a key read it together.
#pragma once

#include "simd_target.h"

#ifdef SHIMMY_PANELS

#include "ggml-cpu/traits.h"

namespace shimmy {

class RowAttention final : public ggml::cpu::tensor_traits {
  public:
    // Whether this node is one: of types and a shape that are taken here.
    static bool takes(const ggml_tensor * node);

    bool work_size(int n_threads, const ggml_tensor * node, size_t & size) override;
    bool compute_forward(ggml_compute_params * params, ggml_tensor * node) override;
};

}  // namespace shimmy

#endif
