// Whether a grammar's matching can grow without reading anything.
#pragma once

#include "gbnf.h"

namespace shimmy {

// A rule that begins with itself and leaves something to be matched behind it each time (a ::= a "x" | "y", also through other
// rules, or behind what may be empty); -1 where there is none. A rule that is nothing but itself (a ::= a) does no harm. Linear time.
int64_t find_left_recursion(const Rules & rules);

}  // namespace shimmy
