// A model without its weights: what it would take can be measured before it is taken.
#include "adapter.h"
#include "error.h"
#include "model.h"
#include "placement.h"
#include "shimmy.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

using namespace shimmy;

namespace {

// In place of the vocabulary, so many unnamed tokens: reading it takes longer than all else here.
struct NoVocabulary {
    llama_model_kv_override overrides[3] = {};  // the last has no key

    NoVocabulary(const char * architecture, int32_t n_vocab) {
        set_key(overrides[0], "tokenizer.ggml.model");
        overrides[0].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
        std::snprintf(overrides[0].val_str, sizeof overrides[0].val_str, "none");
        set_key(overrides[1], std::string(architecture) + ".vocab_size");
        overrides[1].tag = LLAMA_KV_OVERRIDE_TYPE_INT;
        overrides[1].val_i64 = n_vocab;
    }

    static void set_key(llama_model_kv_override & override, const std::string & key) {
        require(key.size() < sizeof override.key, "the architecture's name is too long");
        std::memcpy(override.key, key.c_str(), key.size() + 1);
    }
};

}  // namespace

extern "C" {

int32_t shimmy_model_outline(const char * path, const shimmy_model_params * params, const char * architecture, int32_t n_vocab,
                             shimmy_model ** out) {
    return guarded([&] {
        require(path != nullptr && params != nullptr && architecture != nullptr && out != nullptr, "a pointer is NULL");
        require(n_vocab >= 0, "n_vocab must be at least 0");
        Placement placement;
        llama_model_params p = to_llama(*params, placement);
        p.no_alloc = true;
        p.load_mode = LLAMA_LOAD_MODE_NONE;  // as common/fit.cpp: nothing is mapped
        p.check_tensors = false;
        const NoVocabulary none(architecture, n_vocab);
        if (n_vocab > 0) {
            p.kv_overrides = none.overrides;
        }
        forget_log();
        auto model = std::make_unique<shimmy_model>();
        model->model.reset(llama_model_load_from_file(path, p));
        if (!model->model) {
            const std::string why = logged_errors();
            throw Error(SHIMMY_E_MODEL, why.empty() ? "llama.cpp could not read the model" : why);
        }
        model->vocab = llama_model_get_vocab(model->model.get());
        model->n_vocab = llama_vocab_n_tokens(model->vocab);
        *out = model.release();
    });
}

}  // extern "C"
