// How the answers to a kind of request are written: grammar, stop strings and parser. Made once, shared by requests.
#pragma once

#include "chat.h"

#include <array>
#include <set>
#include <string>
#include <vector>

namespace shimmy {

// Immutable.
struct ChatFormat {
    // Takes what common made for a request; only the prompt does not matter.
    explicit ChatFormat(common_chat_params made);

    common_chat_format kind;
    common_peg_arena arena;
    std::string facts;  // all but prompt, opening and parser, as members of a JSON object without its braces
    bool plain;         // an answer is its text: there is nothing to parse, if its opening is this one
    std::string plain_opening;

    // Text in which no part of the answer can end or begin: what follows until one of the delimiters.
    std::vector<std::string> delimiters;
    std::vector<std::string> marks;           // these and all fixed words of the syntax, two bytes or longer
    std::array<bool, 256> starts_delimiter{};
    bool free_content = true;                 // content runs to a delimiter, and is not JSON that ends by itself
    bool free_reasoning = true;
    std::set<std::string> narrow;             // rules and tags that take only some characters, like names
};

}  // namespace shimmy
