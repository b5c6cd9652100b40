// What may follow in a text: a grammar, as the sampler sees it.
#pragma once

#include "row.h"

#include <cstdint>
#include <vector>

namespace shimmy {

// The drawn token is tested first, and only where it fails is the row masked and a token drawn again: the mixture that
// llama.cpp's common_sampler_sample makes, and cheap, since most draws pass. Belongs to one sampler and its thread.
struct Constraint {
    virtual ~Constraint() = default;

    // Whether `token` (below n_vocab) may come next; true for every token while a lazy grammar sleeps.
    virtual bool allows(int32_t token) = 0;

    // Sets the logits of all tokens that may not come next to -inf.
    virtual void mask(float * logits, int32_t n_vocab) = 0;

    // Leaves those of `tokens` that may not come next. False where mask() is no more work than to test them, and nothing is done.
    virtual bool sift(std::vector<Candidate> & tokens) = 0;

    // Takes `token` as the next one of the text. Called once for each token that the sampler gives out.
    virtual void accept(int32_t token) = 0;

    // The SHIMMY_TOKEN_* flag that says why nothing is left once mask() has left nothing.
    virtual int32_t failure() const = 0;
};

}  // namespace shimmy
