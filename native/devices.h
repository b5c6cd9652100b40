// The devices that a model may be put on, and what lies where once it is loaded.
#pragma once

#include "json.h"
#include "shimmy.h"

#include "ggml-backend.h"
#include "llama.h"

#include <vector>

namespace shimmy {

// "cpu", "gpu", "igpu" (shares the CPU's memory) or "accelerator".
const char * device_type(ggml_backend_dev_t device);

// The devices that `params` choose, in order; empty for none. Throws E_INVALID naming the parameter: for an unknown name, one given
// twice, a main_gpu or a tensor_split that does not fit them.
std::vector<ggml_backend_dev_t> choose_devices(const shimmy_model_params & params);

// Whether a model that was loaded with `params` has its output layer on a GPU that has memory of its own.
bool output_on_gpu(const llama_model * model, const shimmy_model_params & params);

// [{"device", "buffer", "model", "context", "compute"}]: bytes of each kind of buffer.
common_json memory_of(const llama_context * context);

}  // namespace shimmy
