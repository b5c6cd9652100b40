// How a template wants messages that llama.cpp's handler for it rewrites before it renders.
#pragma once

#include "json.h"

#include <array>

namespace shimmy {

enum class Dialect {
    plain,           // as they are
    thinking,        // reasoning also as "thinking"
    thinking_alone,  // and then no content beside tool calls
    blocks,          // content of system and assistant in blocks, reasoning among them
};
constexpr std::array<Dialect, 4> all_dialects{Dialect::plain, Dialect::thinking, Dialect::thinking_alone, Dialect::blocks};

// As the handlers of LFM2, gpt-oss and Ministral 3 do it (common/parsers of llama.cpp).
common_json in_dialect(const common_json & messages, Dialect dialect);

}  // namespace shimmy
