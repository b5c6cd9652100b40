// How deep a chat template nests, found before anything recurses over it.
#pragma once

#include "jinja/lexer.h"

#include <vector>

namespace shimmy {

// Throws std::runtime_error where blocks, brackets and chains of operators lie deeper in one another than the stack is sure to bear:
// llama.cpp's parser has no bound (common/jinja/parser.cpp). Linear time.
void check_nesting(const std::vector<jinja::token> & tokens);

}  // namespace shimmy
