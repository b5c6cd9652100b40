#include "request_json.h"

#include "error.h"

#include <algorithm>

namespace shimmy {

namespace {

constexpr size_t max_depth = 128;

// How deep `text` nests, without parsing it.
size_t depth_of(const std::string & text) {
    size_t depth = 0;
    size_t deepest = 0;
    bool inside = false;  // of a string
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (inside) {
            i += c == '\\';
            inside = c != '"';
        } else if (c == '"') {
            inside = true;
        } else if (c == '{' || c == '[') {
            deepest = std::max(deepest, ++depth);
        } else if ((c == '}' || c == ']') && depth > 0) {
            --depth;
        }
    }
    return deepest;
}

}  // namespace

common_json parse_json(const std::string & text, const char * name) {
    require_param(depth_of(text) <= max_depth, name, "is nested too deep");
    common_json value = common_json::parse_no_throw(text);
    require_param(!value.is_discarded(), name, "is no JSON");
    return value;
}

}  // namespace shimmy
