// One loaded model: weights and vocabulary, shared by contexts.
#pragma once

#include "llama.h"

#include <memory>
#include <vector>

struct shimmy_adapter;

struct shimmy_model {
    ~shimmy_model();  // where shimmy_adapter is known

    struct Free {
        void operator()(llama_model * m) const { llama_model_free(m); }
    };

    std::unique_ptr<llama_model, Free> model;
    const llama_vocab * vocab = nullptr;  // owned by `model`
    int32_t n_vocab = 0;
    std::vector<int32_t> end_tokens;  // all that end a generation
    std::vector<std::unique_ptr<shimmy_adapter>> adapters;
};
