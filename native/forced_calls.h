// Grammars of answers that must call a function, or call at most one.
#pragma once

#include "peg-parser.h"

#include <string>

namespace shimmy {

struct CallBounds {
    bool forced = false;  // the answer is calls, behind what the model thinks: no content but empty lines
    bool single = false;  // one call at most
};

// `grammar` is what common made of `parser` for tools that may be called. Its handlers let content stand before a call that must be
// made, most of them let calls follow one another without end, and a few do that even where only one is asked for. A forced answer
// has max_forced_calls at most, so that a model that repeats itself comes to an end.
std::string bound_calls(std::string grammar, const common_peg_arena & parser, const CallBounds & bounds);

constexpr int max_forced_calls = 16;

}  // namespace shimmy
