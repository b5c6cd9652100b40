#include "schema.h"

#include "error.h"
#include "json-schema-to-grammar.h"
#include "shimmy.h"

#include <algorithm>
#include <exception>

namespace shimmy {

namespace {

// One line of what the converter throws.
std::string reason(const std::exception & error) {
    std::string text = error.what();
    for (const char * prefix : {"JSON schema conversion failed:\n", "JSON schema error "}) {
        if (text.compare(0, std::string(prefix).size(), prefix) == 0) {
            text.erase(0, std::string(prefix).size());
        }
    }
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

}  // namespace

std::string with_json_names(const std::string & grammar) {
    std::string out;
    for (size_t start = 0; start < grammar.size();) {
        const size_t end = std::min(grammar.find('\n', start), grammar.size() - 1) + 1;
        std::string line = grammar.substr(start, end - start);
        if (line.find(R"( ::= ["] ( )") != std::string::npos) {  // only its rules for names begin like this
            for (size_t at = line.find("[^\""); at != std::string::npos; at = line.find("[^\"", at + 3)) {
                line.insert(at + 3, R"(\\\x7F\x00-\x1F)");
            }
        }
        out += line;
        start = end;
    }
    return out;
}

std::string schema_to_grammar(const std::string & text) {
    common_json schema = parse_schema(text);
    SchemaWork work;
    check_schema(schema, work);
    rewrite_patterns(schema);
    rename_references(schema, "d");
    try {
        return with_json_names(json_schema_to_grammar(schema, true));
    } catch (const std::exception & e) {
        throw Error(SHIMMY_E_INVALID, "json_schema " + reason(e), "json_schema");
    }
}

}  // namespace shimmy

extern "C" int32_t shimmy_schema_to_grammar(const char * schema, size_t n_schema, char ** out) {
    using namespace shimmy;
    return guarded([&] {
        require(schema != nullptr && out != nullptr, "a pointer is NULL");
        *out = copy_string(schema_to_grammar(std::string(schema, n_schema)));
    });
}
