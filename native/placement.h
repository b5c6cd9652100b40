// Where the parts of a model go, in llama.cpp's form.
#pragma once

#include "shimmy.h"

#include "ggml-backend.h"
#include "llama.h"

#include <string>
#include <vector>

namespace shimmy {

// What llama.cpp reads by pointer while it loads.
struct Placement {
    std::vector<float> split;
    std::vector<ggml_backend_dev_t> devices;
    std::vector<std::string> patterns;
    std::vector<llama_model_tensor_buft_override> overrides;
};

// What llama.cpp is to do of `p`; it reads from `placement` while it loads. Throws E_INVALID naming the parameter.
llama_model_params to_llama(const shimmy_model_params & p, Placement & placement);

}  // namespace shimmy
