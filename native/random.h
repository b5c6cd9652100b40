// The random numbers of one sequence.
#pragma once

#include <cstdint>
#include <random>

namespace shimmy {

class Random {
  public:
    explicit Random(uint32_t seed) : generator_(seed) {}

    // In (0, 1), 32 bits: never 0, so that a token of probability 0 is not drawn.
    double uniform() { return (static_cast<double>(generator_()) + 0.5) / 4294967296.0; }

  private:
    std::mt19937 generator_;
};

}  // namespace shimmy
