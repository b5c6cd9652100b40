#include "written_tools.h"

#include <string>
#include <utility>

namespace shimmy {

namespace {

constexpr const char * call_start = "<tool_call>";
constexpr const char * call_end = "</tool_call>";

// JSON as templates write it, and models have read it: with a space behind each comma and colon.
std::string spaced(const common_json & json) {
    std::string out;
    bool inside = false;  // of a string
    const std::string text = json.dump_safe();
    for (size_t i = 0; i < text.size(); ++i) {
        out += text[i];
        if (inside && text[i] == '\\') {
            out += text[++i];
        } else if (text[i] == '"') {
            inside = !inside;
        } else if (!inside && (text[i] == ',' || text[i] == ':')) {
            out += ' ';
        }
    }
    return out;
}

std::string offered(const common_json & tools) {
    std::string text = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
                       "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
    for (const common_json & tool : tools) {
        text += "\n" + spaced(tool);
    }
    return text + "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
                  "<tool_call></tool_call> XML tags:\n<tool_call>\n"
                  "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>";
}

std::string written(const common_chat_tool_call & call) {
    return std::string(call_start) + "\n{\"name\": " + common_json(call.name).dump_safe() + ", \"arguments\": " + call.arguments +
           "}\n" + call_end;
}

void append(common_chat_msg & message, const std::string & text, const char * between) {
    if (!message.content_parts.empty()) {
        message.content_parts.push_back({"text", text});
    } else {
        message.content += (message.content.empty() ? "" : between) + text;
    }
}

bool is_instruction(const common_chat_msg & message) { return message.role == "system" || message.role == "developer"; }

}  // namespace

void write_tools(std::vector<common_chat_msg> & messages, const common_json * tools) {
    std::vector<common_chat_msg> out;
    bool results = false;  // the last message is of results
    for (common_chat_msg & message : messages) {
        if (message.role == "tool") {
            const std::string text = "<tool_response>\n" + message.render_content("\n") + "\n</tool_response>";
            if (!results) {
                out.emplace_back();
                out.back().role = "user";
            }
            append(out.back(), text, "\n");
            results = true;
            continue;
        }
        results = false;
        out.push_back(std::move(message));
        for (const common_chat_tool_call & call : std::exchange(out.back().tool_calls, {})) {
            append(out.back(), written(call), "\n");
        }
    }
    if (tools != nullptr) {
        if (out.empty() || !is_instruction(out.front())) {
            out.emplace(out.begin())->role = "system";
        }
        append(out.front(), offered(*tools), "\n\n");
    }
    messages = std::move(out);
}

void set_written_calls(autoparser::autoparser & analysis) {
    analysis.tools = {};
    analysis.tools.format.mode = autoparser::tool_format::JSON_NATIVE;
    analysis.tools.format.per_call_start = call_start;
    analysis.tools.format.per_call_end = call_end;
    analysis.jinja_caps.supports_tool_calls = true;
}

}  // namespace shimmy
