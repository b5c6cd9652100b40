// The repeat, presence and frequency penalties, and the window of tokens that they count.
#pragma once

#include "shimmy.h"
#include "survivors.h"

#include <cstdint>
#include <deque>
#include <unordered_map>

namespace shimmy {

class Penalties {
  public:
    explicit Penalties(const shimmy_sampler_params & params);

    // Whether any of them changes a logit; if not, nothing is counted.
    bool active() const { return active_; }

    // Counts a token, and forgets the one that leaves the window.
    void accept(int32_t token);

    // Changes the logits of the counted tokens: llama_sampler_penalties_apply.
    void apply(Survivors & s) const;

  private:
    float penalized(float logit, int32_t count) const;

    float repeat_;
    float presence_;
    float frequency_;
    size_t last_n_;
    bool active_;
    std::deque<int32_t> window_;  // oldest first
    std::unordered_map<int32_t, int32_t> counts_;
};

}  // namespace shimmy
