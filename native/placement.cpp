#include "placement.h"

#include "devices.h"
#include "error.h"

#include "../src/llama-ext.h"
#include "common.h"

#include <algorithm>

namespace shimmy {

namespace {

// The experts of the first layers, or of all, into the CPU's memory, whatever n_gpu_layers says of their layers.
void keep_experts_on_cpu(int32_t n_layers, Placement & placement) {
    require_param(n_layers >= -1 && n_layers <= 10000, "n_cpu_moe", "must be -1..10000");
    if (n_layers < 0) {
        placement.patterns.emplace_back(LLM_FFN_EXPS_REGEX);
    }
    for (int32_t layer = 0; layer < n_layers; ++layer) {
        placement.patterns.push_back(llm_ffn_block_regex(layer, LLM_FFN_EXPS_REGEX));
    }
    for (const std::string & pattern : placement.patterns) {
        placement.overrides.push_back({pattern.c_str(), ggml_backend_cpu_buffer_type()});
    }
    placement.overrides.push_back({nullptr, nullptr});
}

}  // namespace

llama_model_params to_llama(const shimmy_model_params & p, Placement & placement) {
    require_param(p.load_mode >= LLAMA_LOAD_MODE_AUTO && p.load_mode <= LLAMA_LOAD_MODE_DIRECT_IO, "load_mode",
                  "must be -1..4");
    require_param(p.split_mode >= LLAMA_SPLIT_MODE_NONE && p.split_mode <= LLAMA_SPLIT_MODE_TENSOR, "split_mode",
                  "must be 0..3");
    llama_model_params out = llama_model_default_params();
    placement.devices = choose_devices(p);
    if (p.n_devices != 0) {
        placement.devices.push_back(nullptr);
        out.devices = placement.devices.data();
    }
    if (p.n_cpu_moe != 0) {
        keep_experts_on_cpu(p.n_cpu_moe, placement);
        out.tensor_buft_overrides = placement.overrides.data();
    }
    out.n_gpu_layers = p.n_gpu_layers;
    out.split_mode = static_cast<llama_split_mode>(p.split_mode);
    out.main_gpu = p.main_gpu;
    out.load_mode = static_cast<llama_load_mode>(p.load_mode);
    out.use_extra_bufts = p.use_extra_bufts;
    out.no_host = p.no_host;
    out.check_tensors = p.check_tensors;
    out.vocab_only = p.vocab_only;
    if (p.n_tensor_split > 0) {
        placement.split.assign(llama_max_devices(), 0.0f);  // llama.cpp reads that many
        std::copy(p.tensor_split, p.tensor_split + p.n_tensor_split, placement.split.begin());
        out.tensor_split = placement.split.data();
    }
    return out;
}

}  // namespace shimmy
