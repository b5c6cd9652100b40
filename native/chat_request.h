// A chat request as JSON, checked, in the form that llama.cpp's common takes.
#pragma once

#include "chat-auto-parser.h"
#include "chat.h"
#include "chat_template.h"
#include "chat_tools.h"
#include "json.h"
#include "kept.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace shimmy {

struct ChatRequest {
    std::vector<common_chat_msg> messages;
    std::shared_ptr<const common_json> tools;  // OpenAI's list, each with name, description and parameters; NULL: none
    std::string tools_text;     // as it was given
    std::string function;       // the one function that must be called; empty: any
    common_chat_tool_choice tool_choice = COMMON_CHAT_TOOL_CHOICE_AUTO;
    std::optional<bool> parallel_tool_calls;  // none: if the template can
    bool extract_reasoning = true;
    bool enable_thinking = true;
    bool add_generation_prompt = true;
    bool continue_answer = false;
    std::string json_schema;    // empty: none
    common_json kwargs;         // extra variables of the template: an object
    std::string kwargs_text;
};

// Throws Error(SHIMMY_E_INVALID) naming messages, tools, tool_choice, json_schema or chat_template_kwargs. `known_tools`: the lists
// of the last requests, by their text.
ChatRequest read_chat_request(const char * text, Kept<common_json> & known_tools);

// `request` for `chat_template`: what common_chat_templates_apply does before it renders.
autoparser::generation_params adapt(const ChatRequest & request, const ChatTemplate & chat_template);

}  // namespace shimmy
