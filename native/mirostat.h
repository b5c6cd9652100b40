// Mirostat (Basu et al., arXiv:2007.14966): draws so that the surprise of the tokens stays near a target.
#pragma once

#include "random.h"
#include "shimmy.h"
#include "survivors.h"

#include <cstdint>

namespace shimmy {

// llama_sampler_mirostat and llama_sampler_mirostat_v2. The state is carried from token to token.
class Mirostat {
  public:
    Mirostat(const shimmy_sampler_params & params, int32_t n_vocab);

    bool active() const { return version_ != 0; }

    // Cuts what is left to what the state allows.
    void narrow(Survivors & s) const;

    // Draws from what narrow() left, and learns from the token's surprise. -1 where nothing is left.
    int32_t draw(Survivors & s, Random & random);

  private:
    int32_t wanted_tokens(const Survivors & s, const std::vector<Candidate> & top) const;

    int32_t version_;
    float target_;  // bits of surprise
    float rate_;
    int32_t n_vocab_;
    float most_;  // the most surprise that is allowed: mu of the paper
};

}  // namespace shimmy
