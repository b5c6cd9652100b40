#include "chat_template.h"

#include "jinja/caps.h"
#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "render_bounds.h"
#include "template_nesting.h"
#include "template_program.h"

#include <algorithm>

namespace shimmy {

namespace {

// Every kind of message: what a template's handler changes before it renders shows in one of them.
constexpr const char * probes[] = {
    R"([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi there"},
        {"role": "user", "content": "How are you?"}])",
    R"([{"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi there", "reasoning_content": "a greeting"},
        {"role": "user", "content": "How are you?"}])",
    R"([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "", "reasoning_content": "a tool helps", "tool_calls": [
            {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": {"at": "x"}}},
            {"id": "call00002", "type": "function", "function": {"name": "look", "arguments": {"at": "y"}}}]},
        {"role": "tool", "tool_call_id": "call00002", "content": "two"},
        {"role": "tool", "tool_call_id": "call00001", "content": "one"}])",
};
constexpr const char * probe_tools = R"([{"type": "function", "function": {"name": "look", "description": "looks",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}}}])";

autoparser::generation_params probe(size_t number) {
    autoparser::generation_params params;
    params.messages = common_json::parse(probes[number]);
    params.add_generation_prompt = true;
    params.tool_choice = COMMON_CHAT_TOOL_CHOICE_NONE;
    params.extra_context = common_json::object();
    if (number == 2) {
        params.tools = common_json::parse(probe_tools);
    }
    return params;
}

bool starts_with(const std::string & text, const std::string & start) { return text.compare(0, start.size(), start) == 0; }

bool ends_with(const std::string & text, const std::string & end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The variables of a render, as common_chat_template_direct_apply_impl sets them.
common_json variables(const autoparser::generation_params & params, const std::string & bos, const std::string & eos) {
    common_json out = common_json::object();
    out["messages"] = params.messages;
    out["bos_token"] = bos;
    out["eos_token"] = eos;
    out["enable_thinking"] = params.enable_thinking;
    if (!params.tools.is_null() && !params.tools.empty()) {
        out["tools"] = params.tools;
    }
    if (params.extra_context.is_object()) {
        for (const auto & [key, value] : params.extra_context.items()) {
            out[key] = value;
        }
    }
    return out;
}

}  // namespace

void try_template(const std::string & source) {
    jinja::lexer lexer;
    const jinja::lexer_result lexed = lexer.tokenize(source);
    check_nesting(lexed.tokens);
    jinja::program program = jinja::parse_from_tokens(lexed);
    bound_program(program);
    jinja::caps_get(program);
    RenderBounds::require_unspent();
}

ChatTemplate::ChatTemplate(const std::string & source, const std::string & bos, const std::string & eos)
    : parsed_(source, bos, eos) {
    bound_program(parsed_.prog);
    autoparser::generation_params params = probe(0);
    render_direct(params);
    if (common_chat_try_specialized_template(parsed_, parsed_.src, params)) {
        for (size_t i = 0; i < std::size(probes) && direct_; ++i) {
            direct_ = renders_as_handler(probe(i));
        }
    } else {
        analysis_.emplace();
        analysis_->analyze_template(parsed_);
    }
}

// A conversation that both refuse says nothing.
bool ChatTemplate::renders_as_handler(const autoparser::generation_params & params) const {
    std::optional<std::string> ours;
    std::optional<std::string> theirs;
    try {
        ours = render_direct(params).text;
    } catch (const std::exception &) {
        ours.reset();
    }
    try {
        autoparser::generation_params copy = params;
        theirs = common_chat_try_specialized_template(parsed_, parsed_.src, copy)->prompt;
    } catch (const std::exception &) {
        theirs.reset();
    }
    return ours == theirs;
}

Prompt ChatTemplate::render(const autoparser::generation_params & params) const {
    // Handlers also look at schemas, and at prompts that open no answer.
    if (direct_ && (analysis_ || (params.add_generation_prompt && params.json_schema.is_null()))) {
        return render_direct(params);
    }
    autoparser::generation_params plain = params;  // no tool choice: no grammar is made
    plain.tool_choice = COMMON_CHAT_TOOL_CHOICE_NONE;
    common_chat_params made = apply(std::move(plain));
    return {std::move(made.prompt), std::move(made.generation_prompt)};
}

// What the template adds to open an answer is the difference of two renders (common_chat_template_generation_prompt).
Prompt ChatTemplate::render_direct(const autoparser::generation_params & params) const {
    jinja::context closed(parsed_.src);
    const common_json given = variables(params, parsed_.bos_tok, parsed_.eos_tok);
    if (given.contains("preserve_reasoning") && given.at("preserve_reasoning").is_boolean()) {
        jinja::caps_apply_preserve_reasoning(closed, given.at("preserve_reasoning").get<bool>());
    }
    if (given.contains("reasoning_effort") && given.at("reasoning_effort").is_string()) {
        jinja::caps_apply_reasoning_effort(closed, given.at("reasoning_effort").get<std::string>());
    }
    jinja::global_from_json(closed, given, params.mark_input);
    const Texts texts = render_both(parsed_.prog, closed);
    const std::string without = trimmed(texts.closed, params);
    const std::string with = trimmed(texts.open, params);
    const auto end = std::mismatch(with.begin(), with.end(), without.begin(), without.end()).first;
    return {params.add_generation_prompt ? with : without, std::string(end, with.end())};
}

// Without the marks of a text's ends that the tokenizer puts there.
std::string ChatTemplate::trimmed(std::string text, const autoparser::generation_params & params) const {
    if (params.add_bos && starts_with(text, parsed_.bos_tok)) {
        text.erase(0, parsed_.bos_tok.size());
    }
    if (params.add_eos && ends_with(text, parsed_.eos_tok)) {
        text.erase(text.size() - parsed_.eos_tok.size());
    }
    return text;
}

common_chat_params ChatTemplate::apply(autoparser::generation_params params) const {
    if (!analysis_) {
        return *common_chat_try_specialized_template(parsed_, parsed_.src, params);
    }
    common_chat_params made = autoparser::peg_generator::generate_parser(parsed_, params, *analysis_);
    made.supports_thinking = analysis_->reasoning.mode != autoparser::reasoning_mode::NONE;
    if (made.supports_thinking) {
        made.thinking_start_tag = analysis_->reasoning.start;
        made.thinking_end_tags = {analysis_->reasoning.end};
    }
    return made;
}

}  // namespace shimmy
