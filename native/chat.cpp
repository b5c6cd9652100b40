// Chat templates through llama.cpp's common library: messages in, prompt and stop strings out.
#include "chat.h"

#include "error.h"
#include "json.h"
#include "model.h"
#include "shimmy.h"

#include <string>
#include <vector>

using namespace shimmy;

// A compiled template and what the probe conversation taught about it.
struct shimmy_chat {
    common_chat_templates_ptr templates;
    bool add_bos = false;
    bool add_eos = false;
    bool specialized = false;  // common changes the prompt or adds stops for this template, so every request asks it
};

namespace {

common_chat_templates_inputs to_inputs(const shimmy_chat & chat, const common_json & request) {
    require(request.is_object() && request.contains("messages"), "messages are missing");
    const common_json & messages = request.at("messages");
    require(messages.is_array() && !messages.empty(), "messages must be a list that is not empty");
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(messages);
    inputs.add_generation_prompt = request.value("add_generation_prompt", true);
    inputs.add_bos = chat.add_bos;
    inputs.add_eos = chat.add_eos;
    return inputs;
}

// A template without a handler of its own is analysed by common on every call, by about 18 renders; without tools that
// analysis changes nothing, so the pure path renders the same prompt alone (shimmy_chat_new has compared the two).
common_chat_params render(const shimmy_chat & chat, const common_json & request, bool pure) {
    common_chat_templates_inputs inputs = to_inputs(chat, request);
    inputs.force_pure_content = pure;
    return common_chat_templates_apply(chat.templates.get(), inputs);
}

common_json probe_conversation() {
    return common_json::parse(R"({"messages": [{"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi there"}, {"role": "user", "content": "How are you?"}]})");
}

}  // namespace

extern "C" {

int32_t shimmy_chat_new(const shimmy_model * model, const char * override_template, shimmy_chat ** out) {
    return guarded([&] {
        require(model != nullptr && out != nullptr, "a pointer is NULL");
        const llama_model * m = model->model.get();
        require(override_template != nullptr || llama_model_chat_template(m, nullptr) != nullptr,
                "the model has no chat template");
        auto chat = std::make_unique<shimmy_chat>();
        try {
            chat->templates = common_chat_templates_init(m, override_template != nullptr ? override_template : "");
            chat->add_bos = llama_vocab_get_add_bos(model->vocab);
            chat->add_eos = llama_vocab_get_add_eos(model->vocab);
            const common_chat_params full = render(*chat, probe_conversation(), false);
            const common_chat_params pure = render(*chat, probe_conversation(), true);
            chat->specialized = full.prompt != pure.prompt || !full.additional_stops.empty();
        } catch (const Error &) {
            throw;
        } catch (const std::exception & e) {
            throw Error(SHIMMY_E_TEMPLATE, e.what());
        }
        *out = chat.release();
    });
}

void shimmy_chat_free(shimmy_chat * chat) { delete chat; }

int32_t shimmy_chat_apply(const shimmy_chat * chat, const char * request, char ** out) {
    return guarded([&] {
        require(chat != nullptr && request != nullptr && out != nullptr, "a pointer is NULL");
        common_json body;
        try {
            body = common_json::parse(request);
        } catch (const std::exception & e) {
            throw Error(SHIMMY_E_INVALID, e.what());
        }
        try {
            const common_chat_params params = render(*chat, body, !chat->specialized);
            common_json answer = common_json::object();
            answer["prompt"] = params.prompt;
            answer["stops"] = params.additional_stops;
            *out = copy_string(answer.dump_safe());
        } catch (const Error &) {
            throw;
        } catch (const std::exception & e) {
            throw Error(SHIMMY_E_TEMPLATE, e.what());
        }
    });
}

}  // extern "C"
