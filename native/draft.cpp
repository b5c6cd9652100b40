// Whether one model may guess the next tokens of another.
#include "error.h"
#include "model.h"
#include "shimmy.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

using namespace shimmy;

namespace {

// As llama.cpp has them (common/speculative.cpp: common_speculative_are_compatible): files of one family pad their vocabularies to
// different sizes, and name their first tokens, which no text has, as they like.
constexpr int32_t most_difference = 128;
constexpr int32_t first_compared = 5;

void require_same(bool same, const std::string & why) {
    if (!same) {
        throw Error(SHIMMY_E_INVALID, why, "draft_model");
    }
}

void require_same_token(bool added, bool draft_added, int32_t token, int32_t draft_token, const char * name) {
    require_same(added == draft_added && (!added || token == draft_token),
                 std::string("the ") + name + " token that texts are given is another one");
}

}  // namespace

extern "C" {

int32_t shimmy_model_check_draft(const shimmy_model * model, const shimmy_model * draft) {
    return guarded([&] {
        require(model != nullptr && draft != nullptr, "a pointer is NULL");
        const llama_vocab * a = model->vocab;
        const llama_vocab * b = draft->vocab;
        require_same(llama_vocab_type(a) == llama_vocab_type(b), "its tokenizer is of another type");
        require_same_token(llama_vocab_get_add_bos(a), llama_vocab_get_add_bos(b), llama_vocab_bos(a), llama_vocab_bos(b), "BOS");
        require_same_token(llama_vocab_get_add_eos(a), llama_vocab_get_add_eos(b), llama_vocab_eos(a), llama_vocab_eos(b), "EOS");
        require_same(std::abs(model->n_vocab - draft->n_vocab) <= most_difference,
                     "its vocabulary has " + std::to_string(draft->n_vocab) + " tokens, not " + std::to_string(model->n_vocab));
        for (int32_t token = first_compared; token < std::min(model->n_vocab, draft->n_vocab); ++token) {
            require_same(std::strcmp(llama_vocab_get_text(a, token), llama_vocab_get_text(b, token)) == 0,
                         "its token " + std::to_string(token) + " is another text");
        }
    });
}

}  // extern "C"
