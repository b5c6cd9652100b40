// Products of a quantized matrix with columns of floats, faster than ggml's on the processors of simd_target.h: 16 rows at a time lie
// across a vector's lanes, and a block is unpacked once for all columns, where ggml unpacks it for each.
#pragma once

#include "simd_target.h"

#ifdef SHIMMY_PANELS

#include "ggml-cpu/traits.h"

namespace shimmy {

class PanelMatmul final : public ggml::cpu::tensor_traits {
  public:
    // Whether this node is one: a matrix in plain host memory, of a type and with a shape that is taken here.
    static bool takes(const ggml_tensor * node);

    bool work_size(int n_threads, const ggml_tensor * node, size_t & size) override;
    bool compute_forward(ggml_compute_params * params, ggml_tensor * node) override;
};

}  // namespace shimmy

#endif
