#include "chat_template.h"

#include "chat-auto-parser-helpers.h"
#include "jinja/caps.h"
#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "render_bounds.h"
#include "template_nesting.h"
#include "template_program.h"
#include "written_tools.h"

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

// As jinja::global_from_json takes it, which wants all variables in one JSON object and has them copied for that.
jinja::value value_of(const common_json & json) {
    if (json.is_object()) {
        auto object = jinja::mk_val<jinja::value_object>();
        for (const auto & [key, value] : json.items()) {
            object->insert(key, value_of(value));
        }
        return object;
    }
    if (json.is_array()) {
        auto list = jinja::mk_val<jinja::value_array>();
        for (const common_json & entry : json) {
            list->push_back(value_of(entry));
        }
        return list;
    }
    if (json.is_string()) {
        return jinja::mk_val<jinja::value_string>(json.get<std::string>());
    }
    if (json.is_boolean()) {
        return jinja::mk_val<jinja::value_bool>(json.get<bool>());
    }
    if (json.is_number_integer()) {
        return jinja::mk_val<jinja::value_int>(json.get<int64_t>());
    }
    if (json.is_number_float()) {
        return jinja::mk_val<jinja::value_float>(json.get<double>());
    }
    return jinja::mk_val<jinja::value_none>();
}

// The variables of a render, as common_chat_template_direct_apply_impl sets them.
void set_variables(jinja::context & ctx, const autoparser::generation_params & params, const common_chat_template & of,
                   Dialect dialect) {
    const common_json & extra = params.extra_context;
    if (extra.contains("preserve_reasoning") && extra.at("preserve_reasoning").is_boolean()) {
        jinja::caps_apply_preserve_reasoning(ctx, extra.at("preserve_reasoning").get<bool>());
    }
    if (extra.contains("reasoning_effort") && extra.at("reasoning_effort").is_string()) {
        jinja::caps_apply_reasoning_effort(ctx, extra.at("reasoning_effort").get<std::string>());
    }
    const bool plain = dialect == Dialect::plain;
    ctx.set_val("messages", plain ? value_of(params.messages) : value_of(in_dialect(params.messages, dialect)));
    ctx.set_val("bos_token", jinja::mk_val<jinja::value_string>(of.bos_tok));
    ctx.set_val("eos_token", jinja::mk_val<jinja::value_string>(of.eos_tok));
    ctx.set_val("enable_thinking", jinja::mk_val<jinja::value_bool>(params.enable_thinking));
    if (!params.tools.empty()) {
        ctx.set_val("tools", value_of(params.tools));
    }
    for (const auto & [key, value] : extra.items()) {
        ctx.set_val(key, value_of(value));
    }
}

// Where llama.cpp's analysis errs. Of "look[CALL_ID]c1[ARGS]{...}" (Mistral Small 3.2) it puts the arguments' mark behind the name, too.
void mend(autoparser::autoparser & analysis) {
    const std::string & before_arguments = analysis.tools.call_id.suffix;
    if (analysis.tools.call_id.pos == autoparser::call_id_position::BETWEEN_FUNC_AND_ARGS && !before_arguments.empty() &&
        analysis.tools.function.name_suffix == before_arguments) {
        analysis.tools.function.name_suffix.clear();
    }
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
    render_direct(params, Dialect::plain);
    if (common_chat_try_specialized_template(parsed_, parsed_.src, params)) {
        find_dialect();
    } else {
        dialect_ = Dialect::plain;
        analysis_.emplace();
        analysis_->analyze_template(parsed_);
        mend(*analysis_);
        lacks_tools_ = !analysis_->jinja_caps.supports_tool_calls || analysis_->tools.format.mode == autoparser::tool_format::NONE;
        if (lacks_tools_) {
            set_written_calls(*analysis_);
        }
    }
}

void ChatTemplate::find_dialect() {
    std::vector<std::optional<std::string>> wanted;
    for (size_t i = 0; i < std::size(probes); ++i) {
        wanted.push_back(handler_text(probe(i)));
    }
    for (const Dialect dialect : all_dialects) {
        bool same = true;
        for (size_t i = 0; i < std::size(probes) && same; ++i) {
            same = direct_text(probe(i), dialect) == wanted[i];
        }
        if (same) {
            dialect_ = dialect;
            return;
        }
    }
}

// A conversation that both refuse says nothing.
std::optional<std::string> ChatTemplate::direct_text(const autoparser::generation_params & params, Dialect dialect) const {
    try {
        return render_direct(params, dialect).text;
    } catch (const std::exception &) {
        return std::nullopt;
    }
}

std::optional<std::string> ChatTemplate::handler_text(const autoparser::generation_params & params) const {
    try {
        autoparser::generation_params copy = params;
        return common_chat_try_specialized_template(parsed_, parsed_.src, copy)->prompt;
    } catch (const std::exception &) {
        return std::nullopt;
    }
}

Prompt ChatTemplate::render(const autoparser::generation_params & params) const {
    // Handlers also look at schemas, and at prompts that open no answer.
    if (dialect_ && (analysis_ || (params.add_generation_prompt && params.json_schema.is_null()))) {
        return render_direct(params, *dialect_);
    }
    autoparser::generation_params plain = params;  // no tool choice: no grammar is made
    plain.tool_choice = COMMON_CHAT_TOOL_CHOICE_NONE;
    common_chat_params made = apply(std::move(plain));
    return {std::move(made.prompt), std::move(made.generation_prompt)};
}

// What the template adds to open an answer is the difference of two renders (common_chat_template_generation_prompt).
Prompt ChatTemplate::render_direct(const autoparser::generation_params & params, Dialect dialect) const {
    jinja::context closed(parsed_.src);
    set_variables(closed, params, parsed_, dialect);
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
        made.thinking_start_tag = trim_whitespace(analysis_->reasoning.start);
        const std::string end = trim_whitespace(analysis_->reasoning.end);
        if (!end.empty()) {
            made.thinking_end_tags = {end};
        }
    }
    return made;
}

}  // namespace shimmy
