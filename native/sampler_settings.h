// What a request asks of its sampler, checked and put into the order in which it is done.
#pragma once

#include "shimmy.h"

#include <cstdint>
#include <string>
#include <vector>

namespace shimmy {

enum class Stage { penalties, dry, top_n_sigma, top_k, typical_p, top_p, min_p, xtc, temperature };

// Throws shimmy::Error with the parameter's name on a value out of its range (shimmy.h).
void check_sampler_params(const shimmy_sampler_params & params);

// The stages that change anything, in the order that was asked for. Throws on a name that is none.
std::vector<Stage> plan_stages(const shimmy_sampler_params & params);

// The breakers of the DRY stage; none where it is off. Throws where one is empty or too long, or there are too many.
std::vector<std::string> dry_breaker_texts(const shimmy_sampler_params & params);

}  // namespace shimmy
