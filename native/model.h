// One loaded model: weights and vocabulary, shared by contexts.
#pragma once

#include "dry_breakers.h"
#include "llama.h"
#include "vocabulary.h"

#include <memory>
#include <mutex>
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
    bool output_on_gpu = false;  // the output layer, and with it the logits
    std::vector<int32_t> end_tokens;  // all that end a generation
    std::vector<std::unique_ptr<shimmy_adapter>> adapters;
    mutable shimmy::DryBreakerCache dry_breakers;

    // Made when it is first asked for, which takes half a second for the largest vocabularies; from any thread.
    std::shared_ptr<const shimmy::Vocabulary> texts() const {
        std::call_once(texts_made_, [this] { texts_ = std::make_shared<shimmy::Vocabulary>(vocab); });
        return texts_;
    }

  private:
    mutable std::once_flag texts_made_;
    mutable std::shared_ptr<const shimmy::Vocabulary> texts_;
};
