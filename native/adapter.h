// A LoRA adapter: low-rank changes to the weights of one model, switched on in a context with a scale.
#pragma once

#include "model.h"

#include <cstdint>
#include <string>

// Belongs to its model, as llama.cpp's own object does.
struct shimmy_adapter {
    const shimmy_model * model = nullptr;
    llama_adapter_lora * lora = nullptr;  // owned by the llama_model
    std::string name;
    float alpha = 0.0f;  // 0: the scale alone says how strong it is
    int64_t rank = 0;    // the largest of its tensors
    int64_t n_tensors = 0;
    uint64_t size_bytes = 0;
};
