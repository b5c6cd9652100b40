// Loading a model, its facts, its tokenizer.
#include "model.h"

#include "adapter.h"
#include "devices.h"
#include "error.h"
#include "json.h"
#include "placement.h"
#include "shimmy.h"

#include "../src/llama-ext.h"
#include "common.h"

#include <climits>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

using namespace shimmy;

shimmy_model::~shimmy_model() = default;

namespace {

struct Progress {
    shimmy_progress_fn function;
    void * user;
    bool cancelled = false;
};

bool on_progress(float fraction, void * data) {
    auto * progress = static_cast<Progress *>(data);
    if (progress->function != nullptr && !progress->function(fraction, progress->user)) {
        progress->cancelled = true;
        return false;
    }
    return true;
}

// A special token id, or null where the model has none or names one outside its vocabulary (which llama.cpp accepts).
common_json token_or_null(const shimmy_model & m, llama_token token) {
    return token >= 0 && token < m.n_vocab ? common_json(token) : common_json(nullptr);
}

common_json special_tokens(const shimmy_model & m) {
    const llama_vocab * v = m.vocab;
    common_json tokens = common_json::object();
    tokens["bos"] = token_or_null(m, llama_vocab_bos(v));
    tokens["eos"] = token_or_null(m, llama_vocab_eos(v));
    tokens["eot"] = token_or_null(m, llama_vocab_eot(v));
    tokens["sep"] = token_or_null(m, llama_vocab_sep(v));
    tokens["fim_pre"] = token_or_null(m, llama_vocab_fim_pre(v));
    tokens["fim_suf"] = token_or_null(m, llama_vocab_fim_suf(v));
    tokens["fim_mid"] = token_or_null(m, llama_vocab_fim_mid(v));
    return tokens;
}

// The bytes of the longest token's text, 0 where one token may stand for any number of bytes: WordPiece has one for all unknown
// words, Unigram one for a run of unknown characters, and both leave out white space.
size_t longest_token(const shimmy_model & m) {
    switch (llama_vocab_type(m.vocab)) {
        case LLAMA_VOCAB_TYPE_NONE:
        case LLAMA_VOCAB_TYPE_WPM:
        case LLAMA_VOCAB_TYPE_UGM:
            return 0;
        default:
            break;
    }
    size_t longest = 0;
    for (llama_token token = 0; token < m.n_vocab; ++token) {
        longest = std::max(longest, std::strlen(llama_vocab_get_text(m.vocab, token)));
    }
    return longest;
}

// What the file says: llama.cpp takes "none" for it where it says nothing.
common_json pooling(const llama_model * model) {
    char architecture[64] = "";
    char value[16] = "";
    llama_model_meta_val_str(model, "general.architecture", architecture, sizeof architecture);
    const std::string key = std::string(architecture) + ".pooling_type";
    if (llama_model_meta_val_str(model, key.c_str(), value, sizeof value) < 0) {
        return nullptr;
    }
    for (const auto & [number, name] : {std::pair{"0", "none"}, {"1", "mean"}, {"2", "cls"}, {"3", "last"}, {"4", "rank"}}) {
        if (std::strcmp(value, number) == 0) {
            return name;
        }
    }
    return nullptr;
}

std::string describe(const llama_model * model) {
    char buffer[256];
    llama_model_desc(model, buffer, sizeof buffer);
    return buffer;
}

// The context before the stretching that the file asks for; the trained one where it asks for none.
int64_t original_context(const llama_model * model) {
    char text[64] = "";
    llama_model_meta_val_str(model, "general.architecture", text, sizeof text);
    const std::string key = std::string(text) + ".rope.scaling.original_context_length";
    llama_model_meta_val_str(model, key.c_str(), text, sizeof text);
    const int64_t original = std::atoll(text);
    return original > 0 ? original : llama_model_n_ctx_train(model);
}

void check_text(const shimmy_model * model, const void * in, const void * out, int32_t capacity, const int32_t * n_out) {
    require(model != nullptr && in != nullptr && n_out != nullptr, "a pointer is NULL");
    require(capacity >= 0 && (out != nullptr || capacity == 0), "capacity does not fit the buffer");
}

}  // namespace

extern "C" {

void shimmy_model_default_params(shimmy_model_params * out) {
    const llama_model_params p = llama_model_default_params();
    *out = shimmy_model_params{};
    out->n_gpu_layers = -1;
    out->split_mode = p.split_mode;
    out->main_gpu = p.main_gpu;
    out->load_mode = p.load_mode;
    out->use_extra_bufts = p.use_extra_bufts;
    out->no_host = p.no_host;
    out->check_tensors = p.check_tensors;
}

int32_t shimmy_model_load(const char * path, const shimmy_model_params * params, shimmy_progress_fn progress,
                          void * user, shimmy_model ** out) {
    return guarded([&] {
        require(path != nullptr && params != nullptr && out != nullptr, "a pointer is NULL");
        Placement placement;
        Progress state{progress, user};
        llama_model_params p = to_llama(*params, placement);
        p.progress_callback = on_progress;
        p.progress_callback_user_data = &state;
        forget_log();
        auto model = std::make_unique<shimmy_model>();
        model->model.reset(llama_model_load_from_file(path, p));
        if (!model->model) {
            if (state.cancelled) {
                throw Error(SHIMMY_E_CANCELLED, "loading was cancelled");
            }
            const std::string why = logged_errors();
            const bool memory = why.find("alloc") != std::string::npos;
            throw Error(memory ? SHIMMY_E_MEMORY : SHIMMY_E_MODEL, why.empty() ? "llama.cpp could not load the model" : why);
        }
        model->vocab = llama_model_get_vocab(model->model.get());
        model->n_vocab = llama_vocab_n_tokens(model->vocab);
        model->output_on_gpu = output_on_gpu(model->model.get(), *params);
        for (int32_t token = 0; token < model->n_vocab; ++token) {
            if (llama_vocab_is_eog(model->vocab, token)) {
                model->end_tokens.push_back(token);
            }
        }
        *out = model.release();
    });
}

void shimmy_model_free(shimmy_model * model) { delete model; }

int32_t shimmy_model_facts(const shimmy_model * model, char ** out) {
    return guarded([&] {
        require(model != nullptr && out != nullptr, "a pointer is NULL");
        const llama_model * m = model->model.get();
        common_json facts = common_json::object();
        facts["description"] = describe(m);
        facts["size_bytes"] = llama_model_size(m);
        facts["parameter_count"] = llama_model_n_params(m);
        facts["n_vocab"] = model->n_vocab;
        facts["n_ctx_train"] = llama_model_n_ctx_train(m);
        facts["n_embd"] = llama_model_n_embd(m);
        facts["n_layer"] = llama_model_n_layer(m);
        facts["n_swa"] = llama_model_n_swa(m);
        facts["n_expert"] = llama_model_n_expert(m);
        facts["n_ctx_orig"] = original_context(m);
        facts["has_encoder"] = llama_model_has_encoder(m);
        facts["has_decoder"] = llama_model_has_decoder(m);
        facts["is_recurrent"] = llama_model_is_recurrent(m);
        facts["is_hybrid"] = llama_model_is_hybrid(m);
        facts["is_diffusion"] = llama_model_is_diffusion(m);
        facts["has_chat_template"] = llama_model_chat_template(m, nullptr) != nullptr;
        const char * rerank = llama_model_chat_template(m, "rerank");
        facts["rerank_template"] = rerank == nullptr ? common_json(nullptr) : common_json(rerank);
        facts["pooling"] = pooling(m);
        facts["n_embd_out"] = llama_model_n_embd_out(m);
        facts["add_bos"] = llama_vocab_get_add_bos(model->vocab);
        facts["add_eos"] = llama_vocab_get_add_eos(model->vocab);
        facts["add_sep"] = llama_vocab_get_add_sep(model->vocab);
        facts["special_tokens"] = special_tokens(*model);
        facts["longest_token"] = longest_token(*model);
        *out = copy_string(facts.dump_safe());
    });
}

int32_t shimmy_model_tokenize(const shimmy_model * model, const char * text, size_t n_text, bool add_special,
                              bool parse_special, int32_t * tokens, int32_t capacity, int32_t * n_out) {
    return guarded([&] {
        check_text(model, text, tokens, capacity, n_out);
        require(n_text <= INT32_MAX, "the text is too long");
        require(llama_vocab_type(model->vocab) != LLAMA_VOCAB_TYPE_NONE, "the model has no vocabulary");
        const int32_t n = llama_tokenize(model->vocab, text, static_cast<int32_t>(n_text), tokens, capacity, add_special,
                                         parse_special);
        require(n != INT32_MIN, "the text is too long");
        *n_out = n < 0 ? -n : n;
    });
}

int32_t shimmy_model_detokenize(const shimmy_model * model, const int32_t * tokens, int32_t n_tokens, bool special,
                                char * text, int32_t capacity, int32_t * n_out) {
    return guarded([&] {
        check_text(model, tokens, text, capacity, n_out);
        require(n_tokens >= 0, "n_tokens is negative");
        for (int32_t i = 0; i < n_tokens; ++i) {
            require(tokens[i] >= 0 && tokens[i] < model->n_vocab, "a token id is outside the vocabulary");
        }
        // Not llama_detokenize: it drops spaces before punctuation, which a generation does not.
        int64_t total = 0;
        for (int32_t i = 0; i < n_tokens; ++i) {
            const int32_t room = total < capacity ? capacity - static_cast<int32_t>(total) : 0;
            char * at = room > 0 ? text + total : nullptr;
            total += std::abs(llama_token_to_piece(model->vocab, tokens[i], at, room, 0, special));
        }
        require(total <= INT32_MAX, "the text is too long");
        *n_out = static_cast<int32_t>(total);
    });
}

int32_t shimmy_model_piece(const shimmy_model * model, int32_t token, char * text, int32_t capacity, int32_t * n_out) {
    return guarded([&] {
        check_text(model, &token, text, capacity, n_out);
        require(token >= 0 && token < model->n_vocab, "a token id is outside the vocabulary");
        const int32_t n = llama_token_to_piece(model->vocab, token, text, capacity, 0, false);
        *n_out = n < 0 ? -n : n;
    });
}

}  // extern "C"
