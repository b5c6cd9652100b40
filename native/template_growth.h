// How large the results of the templates' built-in functions get, told from their arguments.
#pragma once

#include "jinja/value.h"

#include <cstddef>
#include <string>

namespace shimmy {

// Whether the function may write more than its arguments hold.
bool may_grow(const std::string & function);

// About how many bytes llama.cpp's function (common/jinja/value.cpp) would write, or would move on the way; `args` begin with the
// value that it is called on. SIZE_MAX where that is no number.
size_t grown_size(const std::string & function, const jinja::func_args & args);

// Bytes of a value as text, lists as deep as one level; what has no text counts nothing.
size_t text_size(const jinja::value & value);

}  // namespace shimmy
