// JSON schemas on their way to a grammar: what of them llama.cpp's converter is given, and in which words.
#pragma once

#include "json.h"

#include <string>

namespace shimmy {

constexpr size_t kMaxSchemaBytes = 128 << 10;

// Parses a schema. Throws shimmy::Error (E_INVALID, param "json_schema") on no JSON, and on brackets that nest deeper than 64.
common_json parse_schema(const std::string & text);

// Throws the same with the place ("#/properties/a") on what the converter would answer with a crash or hours of work: a $ref that
// leads to itself or elsewhere, bounds that no integer has, hundreds of optional properties.
void check_schema(const common_json & schema);

// Rewrites every "pattern" as pattern_in_json() does; throws the same on one that no grammar can be made of.
void rewrite_patterns(common_json & schema);

// The regular expression of the texts that a string has inside of JSON, where `pattern` is one of the strings: with escapes for quote
// and backslash, and without the raw control characters that JSON forbids. Anchored at both ends; \d, \w, \s as classes.
// "" where no grammar can be made of it (look-around, \b, back references).
std::string pattern_in_json(const std::string & pattern);

// The grammar of the JSON texts that match a schema, as far as llama.cpp's converter knows its keywords. Throws as the above.
std::string schema_to_grammar(const std::string & text);

}  // namespace shimmy
