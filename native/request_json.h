// JSON in a request.
#pragma once

#include "json.h"

#include <string>

namespace shimmy {

// Throws Error(SHIMMY_E_INVALID) naming `name` where `text` is no JSON, or nests deeper than what reads it may recurse.
common_json parse_json(const std::string & text, const char * name);

}  // namespace shimmy
