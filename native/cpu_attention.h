// Attention over 16-bit keys and values. ggml looks at every cell of the cache for every head, adds in 16 bits and turns each key into floats
// once a head; here the cells that are seen are listed first, and the heads that share a key read it together: those of one query (what
// decoding needs, where each query sees cells of its own), or of a tile of queries that see nearly the same cells (a prompt's slice).
#pragma once

#include "simd_target.h"

#ifdef SHIMMY_PANELS

#include "ggml-cpu/traits.h"

namespace shimmy {

class CpuAttention final : public ggml::cpu::tensor_traits {
  public:
    // Whether this node is one: of types and a shape that are taken here.
    static bool takes(const ggml_tensor * node);

    bool work_size(int n_threads, const ggml_tensor * node, size_t & size) override;
    bool compute_forward(ggml_compute_params * params, ggml_tensor * node) override;
};

}  // namespace shimmy

#endif
