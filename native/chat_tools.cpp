#include "chat_tools.h"

#include "error.h"
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

// Runs `body`, which looks at the schema of a tool's parameters.
template <typename Body>
void about_tools(Body && body) {
    try {
        body();
    } catch (const Error & e) {
        throw Error(SHIMMY_E_INVALID, std::string("tools: the parameters, as a ") + e.what(), "tools");
    }
}

// One tool as common_chat_tools_to_json_oaicompat writes it.
common_json normal_tool(const common_json & tool, SchemaWork & work) {
    require_param(tool.is_object() && tool.contains("type") && tool.at("type").is_string() &&
                      tool.at("type").get<std::string>() == "function",
                  "tools", "must be a list of objects of type function");
    require_param(tool.contains("function") && tool.at("function").is_object(), "tools", "has an entry without its function");
    const common_json & function = tool.at("function");
    require_param(function.contains("name") && function.at("name").is_string() &&
                      is_plain_name(function.at("name").get<std::string>()),
                  "tools", "has a function whose name is none: 1 to 128 characters, no spaces or quotes");
    const bool described = function.contains("description") && !function.at("description").is_null();
    require_param(!described || function.at("description").is_string(), "tools", "has a description that is no text");
    const bool shaped = function.contains("parameters") && !function.at("parameters").is_null();
    require_param(!shaped || function.at("parameters").is_object(), "tools", "has parameters that are no JSON schema");
    if (shaped) {
        about_tools([&] { check_schema(function.at("parameters"), work); });
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
        out.push_back(normal_tool(tool, work));
        const std::string name = tool.at("function").at("name").get<std::string>();
        require_param(names.insert(name).second, "tools", "has two functions of one name");
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
    for (const common_json & tool : tools) {
        if (!function.empty() && !is_named(tool, function)) {
            continue;
        }
        out.push_back(tool);
        if (called) {
            common_json & parameters = out.back()["function"]["parameters"];
            about_tools([&] { rewrite_patterns(parameters); });
            rename_references(parameters, "t" + std::to_string(out.size()) + "d");
        }
    }
    return out;
}

}  // namespace shimmy
