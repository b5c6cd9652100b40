#include "chat_request.h"

#include "error.h"
#include "request_json.h"
#include "schema.h"
#include "written_tools.h"

#include <algorithm>
#include <ctime>

namespace shimmy {

namespace {

std::string text_of(const common_json & object, const std::string & key) {
    if (!object.contains(key) || object.at(key).is_null()) {
        return "";
    }
    return object.at(key).get<std::string>();
}

std::vector<common_chat_msg> read_messages(const common_json & body) {
    require_param(body.contains("messages") && body.at("messages").is_array() && !body.at("messages").empty(), "messages",
                  "must be a list that is not empty");
    std::vector<common_chat_msg> messages;
    try {
        messages = common_chat_msgs_parse_oaicompat(body.at("messages"));
    } catch (const std::exception & e) {
        throw Error(SHIMMY_E_INVALID, e.what(), "messages");
    }
    for (common_chat_msg & message : messages) {
        for (common_chat_tool_call & call : message.tool_calls) {
            if (call.arguments.empty()) {
                call.arguments = "{}";
            }
            require_param(parse_json(call.arguments, "messages").is_object(), "messages",
                          "has a tool call whose arguments are no JSON object");
        }
    }
    return messages;
}

void read_tool_choice(const common_json & body, ChatRequest & request) {
    const std::string choice = text_of(body, "tool_choice");
    request.function = text_of(body, "function");
    require_param(choice.empty() || choice == "auto" || choice == "none" || choice == "required", "tool_choice",
                  "must be auto, none, required or a function");
    request.tool_choice = choice == "none"       ? COMMON_CHAT_TOOL_CHOICE_NONE
                          : choice == "required" ? COMMON_CHAT_TOOL_CHOICE_REQUIRED
                                                 : COMMON_CHAT_TOOL_CHOICE_AUTO;
    require_param(request.tools != nullptr || request.tool_choice != COMMON_CHAT_TOOL_CHOICE_REQUIRED, "tool_choice",
                  "needs tools");
    require_param(request.function.empty() ||
                      (request.tools != nullptr && has_tool(*request.tools, request.function)),
                  "tool_choice", "names a function that is not in tools");
}

// if the template takes only one of text and parts, the other becomes it (messages_inp_normalizer in common/chat.cpp)
void fit_content(common_json & message, const jinja::caps & caps) {
    common_json & content = message["content"];
    if (caps.supports_typed_content && !caps.supports_string_content && content.is_string()) {
        common_json part = common_json::object();
        part["type"] = "text";
        part["text"] = content;
        common_json parts = common_json::array();
        parts.push_back(part);
        content = parts;
    } else if (caps.supports_string_content && !caps.supports_typed_content && content.is_array()) {
        std::string text;
        for (const common_json & part : content) {
            text += (text.empty() ? "" : "\n") + part.at("text").get<std::string>();
        }
        content = text;
    }
}

void parse_arguments(common_json & message) {
    if (!message.contains("tool_calls")) {
        return;
    }
    for (common_json & call : message["tool_calls"]) {
        common_json & arguments = call["function"]["arguments"];
        arguments = common_json::parse(arguments.get<std::string>());
    }
}

std::string trimmed(const std::string & text) {
    const size_t from = text.find_first_not_of(" \t\n\v\f\r");
    return from == std::string::npos ? "" : text.substr(from, text.find_last_not_of(" \t\n\v\f\r") - from + 1);
}

// StepFun's model loops over blanks around its messages (workaround::trim_all_content)
void trim(std::vector<common_chat_msg> & messages) {
    for (common_chat_msg & message : messages) {
        message.content = trimmed(message.content);
        message.reasoning_content = trimmed(message.reasoning_content);
        for (common_chat_msg_content_part & part : message.content_parts) {
            part.text = trimmed(part.text);
        }
    }
}

// A template that knows no system message gets its text before the next one's (workaround::system_message_not_supported).
void join_system(common_json & messages) {
    if (messages.empty() || messages.front().at("role").get<std::string>() != "system") {
        return;
    }
    if (messages.size() > 1 && messages.front().at("content").is_string() && messages[1].at("content").is_string()) {
        messages[1]["content"] =
            messages.front().at("content").get<std::string>() + "\n" + messages[1].at("content").get<std::string>();
    }
    messages.erase(size_t{0});
}

common_json render_messages(const std::vector<common_chat_msg> & messages, const jinja::caps & caps, bool channels) {
    common_json out = common_json::array();
    for (const common_chat_msg & message : messages) {
        common_json one = message.to_json_oaicompat(false);
        fit_content(one, caps);
        if (!channels && one.at("role").get<std::string>() == "developer") {
            one["role"] = "system";
        }
        if (caps.supports_object_arguments) {
            parse_arguments(one);
        }
        out.push_back(one);
    }
    if (!caps.supports_system_role) {
        join_system(out);
    }
    return out;
}

std::string today(const char * format) {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
#if defined(_WIN32)
    localtime_s(&local, &now);
#else
    localtime_r(&now, &local);
#endif
    char text[64];
    return std::string(text, std::strftime(text, sizeof text, format, &local));
}

common_json extra_context(const ChatRequest & request) {
    common_json out = common_json::object();
    out["datetime"] = today("%b %d %Y");
    out["date_string"] = today("%d %b %Y");
    if (request.kwargs.is_object()) {
        for (const auto & [key, value] : request.kwargs.items()) {
            out[key] = value;
        }
    }
    return out;
}

// A template's variable that grammar and parser depend on, too: as llama-server takes it (tools/server/server-common.cpp).
void read_thinking(ChatRequest & request) {
    if (!request.kwargs.contains("enable_thinking")) {
        return;
    }
    const common_json & wanted = request.kwargs.at("enable_thinking");
    require_param(!wanted.is_string(), "chat_template_kwargs", "has a text for enable_thinking, which must be true or false");
    if (wanted.is_boolean()) {
        request.enable_thinking = wanted.get<bool>();
    }
}

}  // namespace

ChatRequest read_chat_request(const char * text, Kept<common_json> & known_tools) {
    const common_json body = parse_json(text, "messages");
    require_param(body.is_object(), "messages", "is missing");
    ChatRequest request;
    try {
        request.messages = read_messages(body);
        request.tools_text = text_of(body, "tools");
        request.tools = read_tools(request.tools_text, known_tools);
        read_tool_choice(body, request);
        if (body.contains("parallel_tool_calls") && !body.at("parallel_tool_calls").is_null()) {
            request.parallel_tool_calls = body.at("parallel_tool_calls").get<bool>();
        }
        request.extract_reasoning = body.value("extract_reasoning", true);
        request.enable_thinking = body.value("enable_thinking", true);
        request.add_generation_prompt = body.value("add_generation_prompt", true);
        request.continue_answer = body.value("continue_answer", false);
        request.json_schema = text_of(body, "json_schema");
        request.kwargs_text = text_of(body, "chat_template_kwargs");
    } catch (const common_json_error & e) {
        throw Error(SHIMMY_E_INVALID, e.what(), "messages");
    }
    if (!request.kwargs_text.empty()) {
        request.kwargs = parse_json(request.kwargs_text, "chat_template_kwargs");
        require_param(request.kwargs.is_object(), "chat_template_kwargs", "must be an object");
        read_thinking(request);
    }
    if (!request.json_schema.empty()) {
        require_param(parse_json(request.json_schema, "json_schema").is_object(), "json_schema", "must be an object");
        SchemaWork work;
        check_schema(parse_schema(request.json_schema), work);
    }
    require_param(!request.continue_answer ||
                      (request.messages.back().role == "assistant" && request.messages.back().tool_calls.empty()),
                  "messages", "must end with an assistant's message without tool calls, which is to be continued");
    return request;
}

autoparser::generation_params adapt(const ChatRequest & request, const ChatTemplate & chat_template) {
    const jinja::caps & caps = chat_template.caps();
    const std::string & source = chat_template.source();
    const bool writes_tools = chat_template.lacks_tools();
    autoparser::generation_params params;
    std::vector<common_chat_msg> messages = request.messages;
    if (source.find("You have access to the following functions in JSONSchema format") != std::string::npos) {
        trim(messages);
    }
    params.add_generation_prompt = request.add_generation_prompt;
    if (request.continue_answer) {
        params.continue_msg = messages.back();
        messages.pop_back();
        const common_chat_msg & last = params.continue_msg;
        const bool reasons = !last.reasoning_content.empty() && last.content.empty() && last.content_parts.empty();
        params.continue_final_message = reasons ? COMMON_CHAT_CONTINUATION_REASONING : COMMON_CHAT_CONTINUATION_CONTENT;
        params.add_generation_prompt = false;
    }
    if (writes_tools) {
        const bool offered = request.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
        write_tools(messages, offered ? request.tools.get() : nullptr);
    }
    params.messages = render_messages(messages, caps, source.find("<|channel|>") != std::string::npos);
    params.tools = request.tools != nullptr && !writes_tools ? *request.tools : common_json();
    params.tool_choice = request.function.empty() ? request.tool_choice : COMMON_CHAT_TOOL_CHOICE_REQUIRED;
    if (!request.json_schema.empty()) {
        params.json_schema = common_json::parse(request.json_schema);
        rewrite_patterns(params.json_schema);
        if (params.json_schema.empty()) {
            params.json_schema["type"] = "object";
        }
    }
    params.parallel_tool_calls =
        request.function.empty() && request.parallel_tool_calls.value_or(caps.supports_parallel_tool_calls || writes_tools);
    params.reasoning_format = request.extract_reasoning ? COMMON_REASONING_FORMAT_DEEPSEEK : COMMON_REASONING_FORMAT_NONE;
    params.enable_thinking = request.enable_thinking;
    params.extra_context = extra_context(request);
    return params;
}

}  // namespace shimmy
