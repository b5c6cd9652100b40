#include "chat_tools.h"

#include "error.h"
#include "json-schema-to-grammar.h"
#include "request_json.h"
#include "schema.h"

#include <algorithm>
#include <set>

namespace shimmy {

namespace {

constexpr size_t max_tools = 1024;
constexpr size_t max_name = 128;  // bytes of a function's name

bool is_plain_name(const std::string & name) {
    return !name.empty() && name.size() <= max_name &&
           std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x21 || c == 0x7f || c == '"' || c == '\\'; });
}

// Throws Error about a part of tool `at`, whose place is the message's first word.
[[noreturn]] void refuse(size_t at, const char * part, const std::string & why) {
    throw Error(SHIMMY_E_INVALID, "tools[" + std::to_string(at) + "]" + part + ": " + why, "tools");
}

void require_tool(bool condition, size_t at, const char * part, const char * why) {
    if (!condition) {
        refuse(at, part, why);
    }
}

// Runs `body`, which looks at the schema of a tool's parameters.
template <typename Body>
void about_parameters(size_t at, Body && body) {
    try {
        body();
    } catch (const Error & e) {
        refuse(at, ".function.parameters", std::string("as a ") + e.what());
    }
}

// One tool as common_chat_tools_to_json_oaicompat writes it.
common_json normal_tool(const common_json & tool, size_t at, SchemaWork & work) {
    require_tool(tool.is_object() && tool.contains("type") && tool.at("type").is_string() &&
                     tool.at("type").get<std::string>() == "function",
                 at, ".type", "it must be function");
    require_tool(tool.contains("function") && tool.at("function").is_object(), at, ".function", "it is missing");
    const common_json & function = tool.at("function");
    require_tool(function.contains("name") && function.at("name").is_string() &&
                     is_plain_name(function.at("name").get<std::string>()),
                 at, ".function.name", "it must have 1 to 128 bytes, and no spaces, quotes or backslashes");
    const bool described = function.contains("description") && !function.at("description").is_null();
    require_tool(!described || function.at("description").is_string(), at, ".function.description", "it must be a text");
    const bool shaped = function.contains("parameters") && !function.at("parameters").is_null();
    require_tool(!shaped || function.at("parameters").is_object(), at, ".function.parameters", "it must be a JSON schema, an object");
    if (shaped) {
        about_parameters(at, [&] { check_schema(function.at("parameters"), work); });
    }
    common_json inner = common_json::object();
    inner["name"] = function.at("name");
    inner["description"] = described ? function.at("description") : common_json("");
    inner["parameters"] = shaped ? function.at("parameters") : common_json::object();
    common_json out = common_json::object();
    out["type"] = "function";
    out["function"] = inner;
    return out;
}

common_json checked_tools(const std::string & text) {
    const common_json given = parse_json(text, "tools");
    require_param(given.is_array(), "tools", "must be a list");
    require_param(given.size() <= max_tools, "tools", "has more than 1024 entries");
    common_json out = common_json::array();
    std::set<std::string> names;
    SchemaWork work;
    for (const common_json & tool : given) {
        const size_t at = out.size();
        out.push_back(normal_tool(tool, at, work));
        const std::string name = tool.at("function").at("name").get<std::string>();
        require_tool(names.insert(name).second, at, ".function.name", "another function has this name");
    }
    return out;
}

bool is_named(const common_json & tool, const std::string & name) {
    return tool.at("function").at("name").get<std::string>() == name;
}

}  // namespace

std::shared_ptr<const common_json> read_tools(const std::string & text, Kept<common_json> & known) {
    if (text.empty()) {
        return nullptr;
    }
    std::shared_ptr<const common_json> tools = known.find(text);
    if (tools == nullptr) {
        tools = std::make_shared<const common_json>(checked_tools(text));
        known.keep(text, tools);
    }
    return tools->empty() ? nullptr : tools;
}

bool has_tool(const common_json & tools, const std::string & name) {
    for (const common_json & tool : tools) {
        if (is_named(tool, name)) {
            return true;
        }
    }
    return false;
}

common_json tools_for_grammar(const common_json & tools, const std::string & function, bool called) {
    common_json out = common_json::array();
    size_t at = 0;
    for (const common_json & tool : tools) {
        const size_t place = at++;
        if (!function.empty() && !is_named(tool, function)) {
            continue;
        }
        out.push_back(tool);
        if (called) {
            common_json & parameters = out.back()["function"]["parameters"];
            about_parameters(place, [&] { rewrite_patterns(parameters); });
            rename_references(parameters, "t" + std::to_string(out.size()) + "d");
        }
    }
    return out;
}

void require_convertible(const common_json & tools) {
    size_t at = 0;
    for (const common_json & tool : tools) {
        try {
            json_schema_to_grammar(tool.at("function").at("parameters"), true);
        } catch (const std::exception & e) {
            std::string why = e.what();
            std::replace(why.begin(), why.end(), '\n', ' ');
            refuse(at, ".function.parameters", why);
        }
        ++at;
    }
}

}  // namespace shimmy
