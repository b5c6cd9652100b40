// The C ABI of chat: shimmy_chat_* (chat_template.cpp renders, chat_format.cpp holds what answers look like, answer_parser.cpp
// parts them).
#include "answer_parser.h"
#include "chat_format.h"
#include "chat_request.h"
#include "chat_template.h"
#include "error.h"
#include "forced_calls.h"
#include "function_aliases.h"
#include "kept.h"
#include "model.h"
#include "render_bounds.h"
#include "sampler.h"
#include "schema.h"
#include "shimmy.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace shimmy;

namespace {

// Kept for requests to come; what is asked with more bytes is made each time.
constexpr size_t max_formats = 64;
constexpr size_t max_format_key = 1 << 18;
constexpr size_t max_tool_lists = 16;
constexpr size_t max_tools_text = 1 << 16;

}  // namespace

struct shimmy_chat {
    std::unique_ptr<const ChatTemplate> common;
    std::unique_ptr<const ChatTemplate> with_tools;  // NULL: the same
    double max_render_s = 0.0;
    bool add_bos = false;
    bool add_eos = false;
    mutable Kept<ChatFormat> formats{max_formats, max_format_key};
    mutable Kept<common_json> tools{max_tool_lists, max_tools_text};
};

struct shimmy_chat_parser {
    AnswerParser parser;
    std::string delta;  // the last one, borrowed by the caller
};

namespace {

std::string piece_of(const llama_vocab * vocab, llama_token token) {
    return token == LLAMA_TOKEN_NULL ? "" : common_token_to_piece(vocab, token, true);
}

// Everything that grammar and parser depend on.
std::string key_of(const ChatRequest & request, const std::string & opening) {
    const std::string flags{static_cast<char>('0' + request.tool_choice),
                            static_cast<char>('0' + static_cast<int>(request.parallel_tool_calls.value_or(false)) +
                                              2 * static_cast<int>(request.parallel_tool_calls.has_value())),
                            request.extract_reasoning ? 'r' : '-', request.enable_thinking ? 't' : '-'};
    std::string key = flags;
    for (const std::string * part : {&opening, &request.function, &request.json_schema, &request.kwargs_text, &request.tools_text}) {
        key += std::to_string(part->size()) + ':' + *part;
    }
    return key;
}

void bound_made(common_chat_params & made, const CallBounds & bounds) {
    if (!made.grammar.empty() && !made.parser.empty()) {
        common_peg_arena parser;
        parser.load(made.parser);
        made.grammar = bound_calls(std::move(made.grammar), parser, bounds);
    }
}

common_chat_params apply_format(const ChatTemplate & chat_template, const ChatRequest & request,
                                autoparser::generation_params params) {
    const bool called = request.tools != nullptr && request.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
    if (request.tools != nullptr) {
        params.tools = tools_for_grammar(*request.tools, request.function, called);
    }
    try {
        if (!called) {
            common_chat_params made = chat_template.apply(std::move(params));
            made.grammar = with_json_names(made.grammar);
            return made;
        }
        const CallBounds bounds{params.tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED, !params.parallel_tool_calls};
        const FunctionAliases aliases(params.tools);
        common_chat_params made = chat_template.apply(std::move(params));
        bound_made(made, bounds);
        aliases.put_back(made);
        made.grammar = with_json_names(made.grammar);
        return made;
    } catch (const std::exception & e) {
        if (called) {
            require_convertible(tools_for_grammar(*request.tools, "", true));
            throw Error(SHIMMY_E_INVALID, std::string("tools cannot be used with this model: ") + e.what(), "tools");
        }
        if (!request.json_schema.empty()) {
            throw Error(SHIMMY_E_INVALID, std::string("json_schema: ") + e.what(), "json_schema");
        }
        return {};  // no parser: answers are their text
    }
}

std::string quoted(const std::string & text) { return common_json(text).dump_safe(); }

std::unique_ptr<shimmy_chat_parser> parser_for(std::shared_ptr<const ChatFormat> format, const std::string & opening,
                                               bool continued) {
    if (format->plain && !continued && opening == format->plain_opening) {
        return nullptr;
    }
    if (format->arena.empty()) {
        return nullptr;
    }
    return std::unique_ptr<shimmy_chat_parser>(
        new shimmy_chat_parser{AnswerParser(std::move(format), opening, continued), ""});
}

struct Applied {
    Prompt prompt;
    std::shared_ptr<const ChatFormat> format;
};

Applied apply(const shimmy_chat & chat, const ChatRequest & request) {
    const bool tools = request.tools != nullptr && chat.with_tools != nullptr;
    const ChatTemplate & chat_template = tools ? *chat.with_tools : *chat.common;
    autoparser::generation_params params = adapt(request, chat_template);
    params.add_bos = chat.add_bos;
    params.add_eos = chat.add_eos;
    if (request.continue_answer) {  // the prompt's end is the answer so far: nothing to share
        common_chat_params made = apply_format(chat_template, request, params);
        if (request.tools != nullptr) {
            params.tool_choice = COMMON_CHAT_TOOL_CHOICE_NONE;  // no grammar
            common_chat_params plain = chat_template.apply(std::move(params));
            made.prompt = std::move(plain.prompt);  // with the tools as they were given
        }
        Prompt prompt{made.prompt, made.generation_prompt};
        return {std::move(prompt), std::make_shared<const ChatFormat>(std::move(made))};
    }
    Prompt prompt = chat_template.render(params);
    const std::string key = key_of(request, prompt.opening);
    std::shared_ptr<const ChatFormat> format = chat.formats.find(key);
    if (format == nullptr) {
        format = std::make_shared<const ChatFormat>(apply_format(chat_template, request, std::move(params)));
        chat.formats.keep(key, format);
    }
    return {std::move(prompt), std::move(format)};
}

std::string delta_json(const ChatDelta & delta) {
    if (delta.empty()) {
        return "";
    }
    common_json out = common_json::object();
    if (!delta.content.empty()) {
        out["content"] = delta.content;
    }
    if (!delta.reasoning.empty()) {
        out["reasoning"] = delta.reasoning;
    }
    if (!delta.calls.empty()) {
        common_json calls = common_json::array();
        for (const ChatDelta::Call & call : delta.calls) {
            common_json one = common_json::object();
            one["index"] = call.index;
            if (!call.name.empty()) {
                one["id"] = call.id;
                one["name"] = call.name;
            }
            one["arguments"] = call.arguments;
            calls.push_back(one);
        }
        out["tool_calls"] = calls;
    }
    return out.dump_safe();
}

common_json message_json(const common_chat_msg & message) {
    common_json out = common_json::object();
    out["content"] = message.content;
    out["reasoning"] = message.reasoning_content;
    common_json calls = common_json::array();
    for (const common_chat_tool_call & call : message.tool_calls) {
        common_json one = common_json::object();
        one["id"] = call.id;
        one["name"] = call.name;
        one["arguments"] = call.arguments;
        calls.push_back(one);
    }
    out["tool_calls"] = calls;
    return out;
}

// Runs `body` and turns what templates throw into SHIMMY_E_TEMPLATE.
template <typename Body>
void rendering(double max_render_s, Body && body) {
    const RenderBounds bounds(max_render_s);
    try {
        body();
    } catch (const Error &) {
        throw;
    } catch (const std::bad_alloc &) {
        throw;
    } catch (const std::exception & e) {
        throw Error(SHIMMY_E_TEMPLATE, e.what());
    }
}

// Those that common_chat_templates_init is about to parse and to render.
void try_given_templates(const llama_model * model, const char * override_template) {
    if (override_template != nullptr && *override_template != '\0') {
        return try_template(override_template);
    }
    for (const char * name : {static_cast<const char *>(nullptr), "tool_use"}) {
        if (const char * source = llama_model_chat_template(model, name)) {
            try_template(source);
        }
    }
}

}  // namespace

extern "C" {

int32_t shimmy_chat_new(const shimmy_model * model, const char * override_template, double max_render_s,
                        shimmy_chat ** out) {
    return guarded([&] {
        require(model != nullptr && out != nullptr, "a pointer is NULL");
        require_param(max_render_s > 0.0, "max_render_s", "must be above 0");
        const llama_model * m = model->model.get();
        require(override_template != nullptr || llama_model_chat_template(m, nullptr) != nullptr,
                "the model has no chat template");
        auto chat = std::make_unique<shimmy_chat>();
        chat->max_render_s = max_render_s;
        rendering(max_render_s, [&] {
            try_given_templates(m, override_template);
            const common_chat_templates_ptr given =
                common_chat_templates_init(m, override_template != nullptr ? override_template : "");
            const std::string bos = piece_of(model->vocab, llama_vocab_bos(model->vocab));
            const std::string eos = piece_of(model->vocab, llama_vocab_eos(model->vocab));
            // Parsing takes one line's end off the source, and has done so with what it gives back.
            const std::string common = common_chat_templates_source(given.get()) + "\n";
            try_template(common);  // llama.cpp mends some templates
            chat->common = std::make_unique<ChatTemplate>(common, bos, eos);
            const std::string with_tools = common_chat_templates_source(given.get(), "tool_use");
            if (!with_tools.empty()) {
                chat->with_tools = std::make_unique<ChatTemplate>(with_tools + "\n", bos, eos);
            }
        });
        chat->add_bos = llama_vocab_get_add_bos(model->vocab);
        chat->add_eos = llama_vocab_get_add_eos(model->vocab);
        *out = chat.release();
    });
}

void shimmy_chat_free(shimmy_chat * chat) { delete chat; }

int32_t shimmy_chat_apply(const shimmy_chat * chat, const char * request, shimmy_chat_parser ** parser, char ** out) {
    return guarded([&] {
        require(chat != nullptr && request != nullptr && parser != nullptr && out != nullptr, "a pointer is NULL");
        const ChatRequest wanted = read_chat_request(request, chat->tools);
        rendering(chat->max_render_s, [&] {
            const Applied made = apply(*chat, wanted);
            auto made_parser = parser_for(made.format, made.prompt.opening, wanted.continue_answer);
            *out = copy_string("{" + made.format->facts + ",\"prompt\":" + quoted(made.prompt.text) +
                               ",\"opening\":" + quoted(made.prompt.opening) + "}");
            *parser = made_parser.release();
        });
    });
}

void shimmy_chat_parser_free(shimmy_chat_parser * parser) { delete parser; }

int32_t shimmy_chat_parser_feed(shimmy_chat_parser * parser, const char * text, size_t n_text, const char ** delta,
                                size_t * n_delta) {
    return guarded([&] {
        require(parser != nullptr && text != nullptr && delta != nullptr && n_delta != nullptr, "a pointer is NULL");
        parser->delta = delta_json(parser->parser.feed({text, n_text}));
        *delta = parser->delta.data();
        *n_delta = parser->delta.size();
    });
}

int32_t shimmy_chat_parser_finish(shimmy_chat_parser * parser, char ** out) {
    return guarded([&] {
        require(parser != nullptr && out != nullptr, "a pointer is NULL");
        const std::string delta = delta_json(parser->parser.finish());
        const std::string message = message_json(parser->parser.message()).dump_safe();
        *out = copy_string("{\"delta\":" + (delta.empty() ? "{}" : delta) + ",\"message\":" + message +
                           ",\"parsed\":" + (parser->parser.parsed() ? "true" : "false") + ",\"work\":" +
                           std::to_string(parser->parser.work()) + "}");
    });
}

int32_t shimmy_sampler_open_answer(shimmy_sampler * sampler, const int32_t * opening, int32_t n_opening, const int32_t * shown,
                                   int32_t n_shown) {
    return guarded([&] {
        require(sampler != nullptr, "a pointer is NULL");
        require(n_opening >= 0 && (n_opening == 0 || opening != nullptr), "opening is NULL");
        require(n_shown >= 0 && (n_shown == 0 || shown != nullptr), "shown is NULL");
        for (int32_t i = 0; i < n_opening; ++i) {
            require(opening[i] >= 0 && opening[i] < sampler->n_vocab(), "a token of the opening is outside the vocabulary");
        }
        for (int32_t i = 0; i < n_opening; ++i) {
            sampler->begin_with(opening[i]);
        }
        sampler->show(std::vector<int32_t>(shown, shown + n_shown));
    });
}

}  // extern "C"
