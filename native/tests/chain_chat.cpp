// llama.cpp's own chat templates and parsers (chain.h).
#include "chain.h"

#include "chat.h"
#include "json.h"
#include "llama.h"

#include <exception>
#include <memory>
#include <string>

namespace {

struct Chat {
    common_chat_params made;
    common_chat_parser_params parser;
    std::string parsed;
};

std::string to_json(const common_chat_msg & message) {
    common_json out = common_json::object();
    out["content"] = message.content;
    out["reasoning"] = message.reasoning_content;
    common_json calls = common_json::array();
    for (const common_chat_tool_call & call : message.tool_calls) {
        common_json one = common_json::object();
        one["name"] = call.name;
        one["arguments"] = call.arguments;
        calls.push_back(one);
    }
    out["calls"] = calls;
    return out.dump_safe();
}

}  // namespace

extern "C" {

void * chain_chat_new(void * model, const char * chat_template, const char * messages, const char * tools) {
    try {
        const common_chat_templates_ptr templates = common_chat_templates_init(static_cast<llama_model *>(model), chat_template);
        common_chat_templates_inputs inputs;
        inputs.messages = common_chat_msgs_parse_oaicompat(common_json::parse(messages));
        inputs.tools = common_chat_tools_parse_oaicompat(common_json::parse(tools));
        inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
        inputs.parallel_tool_calls = true;
        auto chat = std::make_unique<Chat>();
        chat->made = common_chat_templates_apply(templates.get(), inputs);
        chat->parser = common_chat_parser_params(chat->made);
        chat->parser.reasoning_format = inputs.reasoning_format;
        if (!chat->made.parser.empty()) {
            chat->parser.parser.load(chat->made.parser);
        }
        return chat.release();
    } catch (const std::exception &) {
        return nullptr;
    }
}

void chain_chat_free(void * chat) { delete static_cast<Chat *>(chat); }

const char * chain_chat_prompt(void * chat) { return static_cast<Chat *>(chat)->made.prompt.c_str(); }

const char * chain_chat_parse(void * chat, const char * text, int32_t partial) {
    auto & c = *static_cast<Chat *>(chat);
    try {
        c.parsed = to_json(common_chat_parse(text, partial != 0, c.parser));
    } catch (const std::exception &) {
        return nullptr;
    }
    return c.parsed.c_str();
}

}  // extern "C"
