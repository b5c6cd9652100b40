#include "devices.h"

#include "error.h"

#include "../src/llama-ext.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

namespace shimmy {

namespace {

std::vector<ggml_backend_dev_t> all_of(enum ggml_backend_dev_type type) {
    std::vector<ggml_backend_dev_t> found;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        if (ggml_backend_dev_type(ggml_backend_dev_get(i)) == type) {
            found.push_back(ggml_backend_dev_get(i));
        }
    }
    return found;
}

// Those with memory of their own before those without.
std::vector<ggml_backend_dev_t> all_gpus() {
    std::vector<ggml_backend_dev_t> found = all_of(GGML_BACKEND_DEVICE_TYPE_GPU);
    const std::vector<ggml_backend_dev_t> shared = all_of(GGML_BACKEND_DEVICE_TYPE_IGPU);
    found.insert(found.end(), shared.begin(), shared.end());
    return found;
}

ggml_backend_dev_t find_gpu(const char * name) {
    std::string names;
    for (ggml_backend_dev_t device : all_gpus()) {
        if (std::strcmp(ggml_backend_dev_name(device), name) == 0) {
            return device;
        }
        names += std::string(ggml_backend_dev_name(device)) + ", ";
    }
    const std::string choice = names.empty() ? "this build sees no GPU, so only none can be given" : "choose " + names + "or none";
    throw Error(SHIMMY_E_INVALID, std::string("there is no device '") + name + "': " + choice, "device");
}

}  // namespace

const char * device_type(ggml_backend_dev_t device) {
    switch (ggml_backend_dev_type(device)) {
        case GGML_BACKEND_DEVICE_TYPE_CPU:
            return "cpu";
        case GGML_BACKEND_DEVICE_TYPE_GPU:
            return "gpu";
        case GGML_BACKEND_DEVICE_TYPE_IGPU:
            return "igpu";
        default:
            return "accelerator";
    }
}

std::vector<ggml_backend_dev_t> choose_devices(const shimmy_model_params & params) {
    std::vector<ggml_backend_dev_t> devices;
    require_param(params.n_devices <= 0 || params.devices != nullptr, "device", "is NULL");
    for (int32_t i = 0; i < params.n_devices; ++i) {
        require_param(params.devices[i] != nullptr, "device", "has a name that is NULL");
        devices.push_back(find_gpu(params.devices[i]));
        require_param(std::count(devices.begin(), devices.end(), devices.back()) == 1, "device", "names a device twice");
    }
    if (params.n_devices == 0) {  // as llama.cpp does: GPUs that share the CPU's memory only where there is no other
        devices = all_of(GGML_BACKEND_DEVICE_TYPE_GPU);
        devices = devices.empty() ? all_of(GGML_BACKEND_DEVICE_TYPE_IGPU) : devices;
    }
    const std::string n = std::to_string(devices.size());
    if (params.main_gpu != 0) {
        const std::string rule = "must be 0 or below the number of devices, which is " + n;
        require_param(params.main_gpu > 0 && static_cast<size_t>(params.main_gpu) < devices.size(), "main_gpu", rule.c_str());
    }
    require_param(params.n_tensor_split >= 0, "tensor_split", "has a negative length");
    if (params.n_tensor_split > 0) {
        const std::string rule = "has " + std::to_string(params.n_tensor_split) + " shares; the devices are " + n;
        require_param(static_cast<size_t>(params.n_tensor_split) <= devices.size(), "tensor_split", rule.c_str());
        require_param(params.tensor_split != nullptr, "tensor_split", "is NULL");
        float sum = 0.0f;
        for (int32_t i = 0; i < params.n_tensor_split; ++i) {
            require_param(params.tensor_split[i] >= 0.0f, "tensor_split", "must have no negative share");
            sum += params.tensor_split[i];
        }
        require_param(std::isfinite(sum) && sum > 0.0f, "tensor_split", "must have a share above 0, and none without end");
    }
    require_param(params.split_mode != LLAMA_SPLIT_MODE_TENSOR || !devices.empty(), "split_mode", "tensor needs a GPU");
    return devices;
}

// llama.cpp puts the last layers on GPUs, of which the output layer is the very last.
bool output_on_gpu(const llama_model * model, const shimmy_model_params & params) {
    const std::vector<ggml_backend_dev_t> devices = choose_devices(params);
    const auto own_memory = [](ggml_backend_dev_t device) { return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_GPU; };
    return params.n_gpu_layers != 0 && params.split_mode != LLAMA_SPLIT_MODE_TENSOR && llama_model_n_layer(model) > 0 &&
           !devices.empty() && std::all_of(devices.begin(), devices.end(), own_memory);
}

common_json memory_of(const llama_context * context) {
    common_json rows = common_json::array();
    for (const auto & [type, sizes] : llama_get_memory_breakdown(context)) {
        ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
        const bool host = device == nullptr || ggml_backend_buft_is_host(type);
        rows.push_back({{"device", host ? "CPU" : ggml_backend_dev_name(device)},
                        {"buffer", ggml_backend_buft_name(type)},
                        {"model", static_cast<uint64_t>(sizes.model)},
                        {"context", static_cast<uint64_t>(sizes.context)},
                        {"compute", static_cast<uint64_t>(sizes.compute)}});
    }
    return rows;
}

}  // namespace shimmy
