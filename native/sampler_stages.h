// The stages that narrow what is left of a row. Each is llama.cpp's sampler of that name (src/llama-sampler.cpp) over the survivors
// so far, in exact sums where the original adds floats one by one. Called with values that change something, never neutral ones.
#pragma once

#include "random.h"
#include "survivors.h"

#include <cstdint>

namespace shimmy {

// Keeps the k largest logits. k >= 1
void top_k(Survivors & s, int32_t k);

// Keeps the fewest most likely tokens whose probabilities reach p, and at least min_keep. 0 <= p < 1
void top_p(Survivors & s, float p, int32_t min_keep);

// Keeps tokens of at least p times the most likely one's probability, and at least min_keep. 0 < p <= 1
void min_p(Survivors & s, float p, int32_t min_keep);

// Locally typical sampling (Meister et al., arXiv:2202.00666): keeps the fewest tokens whose probabilities pass p, those first whose
// surprise is nearest to the distribution's entropy, and at least min_keep. 0 <= p < 1
void typical_p(Survivors & s, float p, int32_t min_keep);

// Top-n-sigma (arXiv:2411.07641): keeps logits within n standard deviations of the largest one. n > 0
void top_n_sigma(Survivors & s, float n);

// Exclude top choices: with `probability`, takes away all tokens of at least `threshold` but the least likely of these, where at
// least min_keep are left. 0 < probability <= 1, 0 <= threshold <= 0.5
void xtc(Survivors & s, float probability, float threshold, int32_t min_keep, Random & random);

// Divides the logits by a temperature, 0 being the most likely token alone; with range > 0 by one between temperature - range and
// temperature + range, the higher the more even the distribution is: its entropy over the largest possible one, to the power of
// `exponent` (entropy-based dynamic temperature). `last`: nothing follows but the draw.
void temperature(Survivors & s, float value, float range, float exponent, bool last);

}  // namespace shimmy
