// A grammar's text (GBNF, llama.cpp's notation) turned into rules of symbols.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace shimmy {

struct Symbol {
    enum Kind : uint32_t { kEnd, kOr, kRule, kCharacters, kToken, kNotToken };
    Kind kind;       // kOr ends an alternative, kEnd the rule
    uint32_t value;  // of kRule: its number; of kCharacters: an index into `sets`; of the token kinds: the token
};

// Code points, as sorted ranges that neither overlap nor touch; both ends belong to a range.
using CharacterSet = std::vector<std::pair<uint32_t, uint32_t>>;

constexpr uint32_t kLastCharacter = 0x10FFFF;

// What llama.cpp's parser makes of the text, in one array. A repetition is written out: S{2,} is S S R with R ::= S R |.
struct Rules {
    std::vector<Symbol> symbols;
    std::vector<uint32_t> starts;  // of each rule, in `symbols`
    std::vector<CharacterSet> sets;
    uint32_t root = 0;
};

// Bounds that hold before and while a text is taken apart, so that no text costs more than a few megabytes.
constexpr size_t kMaxGrammarBytes = 1 << 20;
constexpr size_t kMaxSymbols = 500'000;
constexpr int kMaxNesting = 200;

// The one token that a text like "<|im_end|>" is, or -1.
using FindToken = std::function<int32_t(const std::string & text)>;

// Throws shimmy::Error (E_INVALID, param "grammar") with line and column, and what was expected there. Left recursion that would
// grow without end, undefined rules and a missing root are errors too.
Rules parse_gbnf(const std::string & text, const std::string & root, int32_t n_vocab, const FindToken & find_token);

}  // namespace shimmy
