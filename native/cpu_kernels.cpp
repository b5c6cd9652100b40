#include "cpu_kernels.h"

#include "panel_matmul.h"
#include "cpu_attention.h"

#ifdef SHIMMY_PANELS

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"

namespace shimmy {
namespace {

class Kernels final : public ggml::cpu::extra_buffer_type {
  public:
    // Of memory that is ours: there is none, so no weight is ever put into it.
    bool supports_op(ggml_backend_dev_t, const ggml_tensor *) override { return false; }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * node) override {
        if (PanelMatmul::takes(node)) {
            return &matmul_;
        }
        return CpuAttention::takes(node) ? &attention_ : nullptr;
    }

  private:
    PanelMatmul matmul_;
    CpuAttention attention_;
};

bool install() {
    static auto * const kernels = new Kernels;  // never freed: a graph may still run while the process ends
    static ggml_backend_buffer_type entry{};
    entry.context = kernels;
    // The list that models look for memory in is copied from this one at its first use: that copy must come before ours.
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (!cpu) {
        return false;
    }
    using GetTypes = ggml_backend_buffer_type_t * (*)(ggml_backend_dev_t);
    auto get_types = reinterpret_cast<GetTypes>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts"));
    if (!get_types) {
        return false;
    }
    get_types(cpu);
    ggml_backend_cpu_get_extra_buffer_types().push_back(&entry);
    return true;
}

}  // namespace

void install_cpu_kernels() {
    static const bool installed = install();
    (void) installed;
}

}  // namespace shimmy

#else

void shimmy::install_cpu_kernels() {}

#endif
