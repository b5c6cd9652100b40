#include "message_dialect.h"

#include <string>

namespace shimmy {

namespace {

bool has_reasoning(const common_json & message) {
    return message.contains("reasoning_content") && message.at("reasoning_content").is_string();
}

bool has_calls(const common_json & message) {
    return message.contains("tool_calls") && message.at("tool_calls").is_array() && !message.at("tool_calls").empty();
}

common_json block(const char * type, const common_json & text) {
    common_json out = common_json::object();
    out["type"] = type;
    out[type] = text;
    return out;
}

void put_in_blocks(common_json & message) {
    const std::string role = message.value("role", "");
    if (role != "system" && role != "assistant") {
        return;
    }
    common_json content = common_json::array();
    if (has_reasoning(message)) {
        content.push_back(block("thinking", message.at("reasoning_content")));
    }
    if (message.contains("content") && message.at("content").is_string()) {
        content.push_back(block("text", message.at("content")));
    } else if (message.contains("content") && message.at("content").is_array()) {
        content.insert(message.at("content"));
    }
    message["content"] = content;
    message.erase("reasoning_content");
}

void name_thinking(common_json & message, bool alone) {
    if (!has_reasoning(message)) {
        return;
    }
    message["thinking"] = message.at("reasoning_content");
    if (alone && has_calls(message)) {
        message.erase("content");
    }
}

}  // namespace

common_json in_dialect(const common_json & messages, Dialect dialect) {
    common_json out = messages;
    for (common_json & message : out) {
        if (dialect == Dialect::blocks) {
            put_in_blocks(message);
        } else if (dialect != Dialect::plain) {
            name_thinking(message, dialect == Dialect::thinking_alone);
        }
    }
    return out;
}

}  // namespace shimmy
