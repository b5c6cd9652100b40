// JSON schemas on their way to a grammar: what of them llama.cpp's converter is given, and in which words.
#pragma once

#include "json.h"

#include <string>

namespace shimmy {

constexpr size_t kMaxSchemaBytes = 128 << 10;

// Parses a schema. Throws shimmy::Error (E_INVALID, param "json_schema") on no JSON, and on brackets that nest deeper than 64.
common_json parse_schema(const std::string & text);

// What the schemas of one grammar make the converter do, all together.
struct SchemaWork {
    size_t n_nodes = 0;   // visits
    size_t n_ways = 0;    // through references
    size_t optional = 0;  // grows with the third power of an object's optional properties
};

// Throws the same with the place ("#/properties/a") on what the converter would answer with a crash or hours of work: a $ref that
// leads to itself or elsewhere, bounds that no integer has, hundreds of optional properties. Adds to `work`.
void check_schema(const common_json & schema, SchemaWork & work);

// Rewrites every "pattern" as pattern_in_json() does; throws the same on one that no grammar can be made of.
void rewrite_patterns(common_json & schema);

// Gives each target of a $ref a name of its own in "$defs", beginning with `prefix` (letters and digits). The converter names rules
// by a reference's letters and digits alone: of two targets "a-b" and "a_b", or of one name in two tools, all would get the first.
// `schema` has passed check_schema().
void rename_references(common_json & schema, const std::string & prefix);

// The regular expression of the texts that a string has inside of JSON, where `pattern` is one of the strings: with escapes for quote
// and backslash, and without the raw control characters that JSON forbids. Anchored at both ends; \d, \w, \s as classes.
// "" where no grammar can be made of it (look-around, \b, back references).
std::string pattern_in_json(const std::string & pattern);

// In a grammar that the converter made: names that no listed property has, as JSON writes names. The converter's "any character
// but these, then more" lets backslashes and control characters in.
std::string with_json_names(const std::string & grammar);

// The grammar of the JSON texts that match a schema, as far as llama.cpp's converter knows its keywords. Throws as the above.
std::string schema_to_grammar(const std::string & text);

}  // namespace shimmy
