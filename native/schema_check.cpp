#include "schema.h"

#include "error.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace shimmy {

namespace {

constexpr int kMaxNesting = 64;
constexpr int kMaxDepth = 400;       // with all references followed
constexpr size_t kMaxNodes = 20'000;  // visits of the converter
constexpr size_t kMaxOptionalWork = 20'000'000;  // the converter's work grows with the third power of an object's optional properties
constexpr size_t kMaxWays = 200'000;
constexpr size_t kMaxTypes = 7;
constexpr size_t kMaxNameBytes = 1000;
constexpr double kLargestBound = 9e18;

[[noreturn]] void fail_at(const std::string & path, const std::string & message) {
    const std::string place = path.size() > 200 ? "..." + path.substr(path.size() - 200) : path;
    throw Error(SHIMMY_E_INVALID, "json_schema at " + place + ": " + message, "json_schema");
}

// Walks a schema the way the converter does, each definition once, and counts what it would visit.
class Check {
  public:
    Check(const common_json & root, SchemaWork & work) : root_(root), work_(work) {}

    // `times`: how often the converter comes here, since a list of types makes it visit a schema once a type; never for 0.
    void visit(const common_json & schema, const std::string & path, int depth, size_t times) {
        if (times == 0) {
            return;
        }
        if (!schema.is_object()) {
            fail_at(path, "a schema must be an object");
        }
        if (depth > kMaxDepth) {
            fail_at(path, "the schema nests too deep");
        }
        work_.n_nodes += times;
        if (work_.n_nodes > kMaxNodes) {
            fail_at(path, "the schema is too large");
        }
        if (schema.contains("$ref")) {
            follow(schema.at("$ref"), path, depth, times);
            return;
        }
        if (schema.contains("type") && schema.at("type").is_array() && schema.at("type").size() > kMaxTypes) {
            fail_at(path, "type lists more than 7 types");
        }
        check_bounds(schema, path);
        for (const char * key : {"oneOf", "anyOf"}) {
            visit_list(schema, key, path, depth, times);
        }
        const bool listed = schema.contains("type") && schema.at("type").is_array();
        visit_all_of(schema, path, depth, times * (listed ? count_type(schema, "object") + count_type(schema, "string") : 1));
        visit_object(schema, path, depth, times * count_type(schema, "object"));
        for (const char * key : {"items", "prefixItems"}) {
            const size_t n = times * count_type(schema, "array");
            if (schema.contains(key) && schema.at(key).is_array()) {
                visit_list(schema, key, path, depth, n);
            } else if (schema.contains(key)) {
                visit(schema.at(key), path + "/" + key, depth + 1, n);
            }
        }
    }

  private:
    // In how many of its types a keyword of `type` counts; 1 where none is given.
    static size_t count_type(const common_json & schema, const char * type) {
        if (!schema.contains("type") || !schema.at("type").is_array()) {
            return 1;
        }
        size_t n = 0;
        for (const common_json & entry : schema.at("type")) {
            n += entry.is_string() && entry.get<std::string>() == type ? 1 : 0;
        }
        return n;
    }

    void visit_list(const common_json & schema, const char * key, const std::string & path, int depth, size_t times) {
        if (!schema.contains(key) || !schema.at(key).is_array()) {
            return;
        }
        size_t i = 0;
        for (const common_json & entry : schema.at(key)) {
            visit(entry, path + "/" + key + "/" + std::to_string(i++), depth + 1, times);
        }
    }

    // One object of all parts' properties, those of an anyOf's alternatives optional. A part that is a reference is gone into each
    // time, unlike other references: a schema that contains itself by allOf has no end.
    void visit_all_of(const common_json & schema, const std::string & path, int depth, size_t times) {
        visit_list(schema, "allOf", path, depth, times);
        if (times == 0 || !schema.contains("allOf") || !schema.at("allOf").is_array()) {
            return;
        }
        size_t n_optional = 0;
        for (const common_json & part : schema.at("allOf")) {
            const size_t n = visit_part(part, path, depth, times);
            n_optional += part.contains("type") && part.at("type").is_array() ? n * count_type(part, "object") : 0;
            for (const char * key : {"oneOf", "anyOf"}) {
                if (part.contains(key) && part.at(key).is_array()) {
                    for (const common_json & alternative : part.at(key)) {
                        n_optional += visit_part(alternative, path, depth, times);
                    }
                }
            }
        }
        charge_optional(n_optional, path, times);
    }

    // How many properties a part of an allOf adds.
    size_t visit_part(const common_json & part, const std::string & path, int depth, size_t times) {
        const common_json * target = &part;
        while (target->contains("$ref")) {
            target = &target_of(target->at("$ref"), path);
        }
        if (target != &part) {
            visit_properties(*target, path, depth + 1, times);
        }
        const bool has_properties = target->contains("properties") && target->at("properties").is_object();
        return has_properties ? target->at("properties").size() : 0;
    }

    static size_t count_optional(const common_json & schema) {
        std::set<std::string> required;
        if (schema.contains("required") && schema.at("required").is_array()) {
            for (const common_json & name : schema.at("required")) {
                if (name.is_string()) {
                    required.insert(name.get<std::string>());
                }
            }
        }
        const bool more = schema.contains("additionalProperties") && schema.at("additionalProperties") != false;
        size_t n = more ? 1 : 0;
        for (const auto & [name, property] : schema.at("properties").items()) {
            n += 1 - required.count(name);
        }
        return n;
    }

    void charge_optional(size_t n_optional, const std::string & path, size_t times) {
        work_.optional += std::min(times, kMaxNodes) * n_optional * n_optional * n_optional;
        if (work_.optional > kMaxOptionalWork) {
            fail_at(path, "too many properties are not required: 250 are the most for one object");
        }
    }

    void visit_object(const common_json & schema, const std::string & path, int depth, size_t times) {
        if (schema.contains("properties") && schema.at("properties").is_object()) {
            charge_optional(count_optional(schema), path, times);
        }
        visit_properties(schema, path, depth, times);
        if (schema.contains("additionalProperties") && schema.at("additionalProperties").is_object()) {
            visit(schema.at("additionalProperties"), path + "/additionalProperties", depth + 1, times);
        }
    }

    void visit_properties(const common_json & schema, const std::string & path, int depth, size_t times) {
        if (times > 0 && schema.contains("properties") && schema.at("properties").is_object()) {
            for (const auto & [name, property] : schema.at("properties").items()) {
                if (name.size() > kMaxNameBytes) {
                    fail_at(path, "a property's name has more than 1000 bytes");
                }
                visit(property, path + "/properties/" + name, depth + 1, times);
                std::set<const common_json *> passed;
                go_all_ways(property, path, 0, passed);
            }
        }
    }

    // Whether a property may be a string is found anew on each way through references (common_chat_schema::may_be_string), and two
    // references a level double the ways.
    void go_all_ways(const common_json & schema, const std::string & path, int depth, std::set<const common_json *> & passed) {
        if (++work_.n_ways > kMaxWays || depth > kMaxDepth) {
            fail_at(path, "too many references lead to references");
        }
        if (schema.contains("$ref")) {
            const common_json * target = &target_of(schema.at("$ref"), path);
            if (target->is_object() && passed.insert(target).second) {
                go_all_ways(*target, path, depth + 1, passed);
                passed.erase(target);
            }
            return;
        }
        for (const char * key : {"oneOf", "anyOf", "allOf"}) {
            if (schema.contains(key) && schema.at(key).is_array()) {
                for (const common_json & entry : schema.at(key)) {
                    if (entry.is_object()) {
                        go_all_ways(entry, path, depth + 1, passed);
                    }
                }
            }
        }
    }

    void check_bounds(const common_json & schema, const std::string & path) const {
        for (const char * key : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}) {
            if (schema.contains(key) && schema.at(key).is_number() && !(std::fabs(schema.at(key).get<double>()) < kLargestBound)) {
                fail_at(path, std::string(key) + " must be within 9e18 of 0");
            }
        }
        for (const char * key : {"minItems", "maxItems", "minLength", "maxLength"}) {
            if (schema.contains(key) && schema.at(key).is_number() && schema.at(key).get<double>() > 1e6) {
                fail_at(path, std::string(key) + " must be at most 1,000,000");
            }
        }
        check_order(schema, path, "minItems", "maxItems");
        check_order(schema, path, "minLength", "maxLength");
        check_order(schema, path, "minimum", "maximum");
    }

    static void check_order(const common_json & schema, const std::string & path, const char * low, const char * high) {
        if (schema.contains(low) && schema.contains(high) && schema.at(low).is_number() && schema.at(high).is_number() &&
            schema.at(low).get<double>() > schema.at(high).get<double>()) {
            fail_at(path, std::string(low) + " is above " + high);
        }
    }

    const common_json & target_of(const common_json & value, const std::string & path) const {
        if (!value.is_string() || value.get<std::string>().compare(0, 2, "#/") != 0) {
            fail_at(path, "$ref must point into the same document (#/...)");
        }
        const std::string ref = value.get<std::string>();
        const common_json * target = &root_;
        for (size_t start = 2; start <= ref.size();) {
            const size_t end = std::min(ref.find('/', start), ref.size());
            const std::string name = ref.substr(start, end - start);
            if (target->is_object() && target->contains(name)) {
                target = &target->at(name);
            } else if (target->is_array() && is_index(name) && std::stoul(name) < target->size()) {
                target = &target->at(static_cast<size_t>(std::stoul(name)));
            } else {
                fail_at(path, "$ref " + ref + " points at nothing");
            }
            start = end + 1;
        }
        return *target;
    }

    static bool is_index(const std::string & text) {
        const bool plain = text == "0" || (!text.empty() && text[0] != '0');
        return plain && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string::npos;
    }

    // The converter builds each definition once, and follows references to references without an end.
    void follow(const common_json & value, const std::string & path, int depth, size_t times) {
        const common_json * target = &target_of(value, path);
        std::set<const common_json *> chain;
        for (const common_json * at = target; at->is_object() && at->contains("$ref"); at = &target_of(at->at("$ref"), path)) {
            if (!chain.insert(at).second) {
                fail_at(path, "$ref leads to itself");
            }
        }
        if (followed_.insert(target).second) {
            visit(*target, value.get<std::string>(), depth + 1, times);
        }
    }

    const common_json & root_;
    SchemaWork & work_;
    std::set<const common_json *> followed_;
};

}  // namespace

common_json parse_schema(const std::string & text) {
    if (text.size() > kMaxSchemaBytes) {
        throw Error(SHIMMY_E_INVALID, "json_schema has " + std::to_string(text.size()) + " bytes: 131,072 are allowed", "json_schema");
    }
    int depth = 0;
    bool inside = false;  // of a string
    for (size_t i = 0; i < text.size(); ++i) {
        if (inside) {
            if (text[i] == '\\') {
                ++i;
            } else if (text[i] == '"') {
                inside = false;
            }
            continue;
        }
        inside = text[i] == '"';
        depth += text[i] == '{' || text[i] == '[' ? 1 : text[i] == '}' || text[i] == ']' ? -1 : 0;
        if (depth > kMaxNesting) {
            throw Error(SHIMMY_E_INVALID, "json_schema nests deeper than 64", "json_schema");
        }
    }
    common_json schema = common_json::parse_no_throw(text);
    if (schema.is_discarded()) {
        throw Error(SHIMMY_E_INVALID, "json_schema is not valid JSON", "json_schema");
    }
    return schema;
}

void check_schema(const common_json & schema, SchemaWork & work) { Check(schema, work).visit(schema, "#", 0, 1); }

}  // namespace shimmy
