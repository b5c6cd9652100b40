// Goes through the whole C ABI on the GGUF files named on the command line; scripts/sanitize builds it with the address and
// undefined-behaviour sanitizers over our own sources. What the calls answer is checked by tests/native; here it is how they do it.
#include "check.h"
#include "exercise_grammar.h"
#include "exercise_kernels.h"
#include "shimmy.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

bool accept(float, void *) { return true; }
bool refuse(float, void *) { return false; }

struct Facts {
    int32_t n_vocab;
    bool has_template;
};

Facts read_facts(const shimmy_model * model) {
    char * json = nullptr;
    CHECK(shimmy_model_facts(model, &json) == SHIMMY_OK);
    const std::string text = json;
    shimmy_string_free(json);
    const size_t at = text.find("\"n_vocab\":");
    CHECK(at != std::string::npos);
    return {std::atoi(text.c_str() + at + std::strlen("\"n_vocab\":")),
            text.find("\"has_chat_template\":true") != std::string::npos};
}

shimmy_sampler_params sampler_params() {
    shimmy_sampler_params p{};
    shimmy_sampler_default_params(&p);
    p.temperature = 0.8f;
    p.top_k = 40;
    p.top_p = 0.95f;
    p.min_p = 0.05f;
    p.repeat_penalty = 1.1f;
    p.repeat_last_n = 8;
    p.seed = 1;
    p.n_logprobs = -1;
    return p;
}

shimmy_sampler * make_sampler(const shimmy_model * model, const shimmy_sampler_params & params) {
    const int32_t history[] = {1, 2, 3, 1, 1};
    shimmy_sampler * sampler = nullptr;
    CHECK(shimmy_sampler_new(model, &params, history, 5, &sampler) == SHIMMY_OK);
    return sampler;
}

// Rows with ties, NaN, infinities, and nothing at all.
void exercise_rows(const shimmy_model * model, int32_t n_vocab, const shimmy_sampler_params & p) {
    shimmy_sampler * sampler = make_sampler(model, p);
    std::vector<int32_t> tokens(static_cast<size_t>(n_vocab));
    std::vector<float> values(static_cast<size_t>(n_vocab));
    for (int kind = 0; kind < 7; ++kind) {
        std::vector<float> row(static_cast<size_t>(n_vocab));
        for (size_t i = 0; i < row.size(); ++i) {
            const float wave = std::sin(static_cast<float>(i) * 1.7f) * 9.0f;
            const float rows[] = {wave, 0.0f, -infinity, std::nanf(""), i % 3 == 0 ? std::nanf("") : wave,
                                  i == 7 ? infinity : wave, static_cast<float>(i) * -1e30f};
            row[i] = rows[kind];
        }
        std::vector<float> copy = row;
        int32_t n = 0;
        CHECK(shimmy_sampler_survivors(sampler, copy.data(), n_vocab, tokens.data(), values.data(), &n) == SHIMMY_OK);
        CHECK(n >= 0 && n <= n_vocab);
        shimmy_sample sample{};
        CHECK(shimmy_sampler_sample(sampler, row.data(), n_vocab, &sample) == SHIMMY_OK);
        CHECK(sample.token >= -1 && sample.token < n_vocab);
    }
    shimmy_sampler_free(sampler);
}

// Stages that the loops below leave out, alone and together, in two orders.
void exercise_other_stages(const shimmy_model * model, int32_t n_vocab) {
    const char * breakers[] = {"\n", "the", " cat"};
    const char * backwards[] = {"temperature", "xtc", "min_p", "top_p", "typ_p", "top_k", "top_n_sigma", "dry", "penalties"};
    for (int set = 1; set < 64; ++set) {
        shimmy_sampler_params p = sampler_params();
        p.typical_p = set & 1 ? 0.7f : 1.0f;
        p.top_n_sigma = set & 2 ? 1.5f : 0.0f;
        p.xtc_probability = set & 4 ? 1.0f : 0.0f;
        p.xtc_threshold = set & 1 ? 0.01f : 0.0f;
        p.dry_multiplier = set & 8 ? 0.8f : 0.0f;
        p.dry_penalty_last_n = 5;
        p.dry_allowed_length = set & 1;
        p.dry_breakers = breakers;
        p.n_dry_breakers = 3;
        p.dynatemp_range = set & 16 ? 0.9f : 0.0f;
        p.min_keep = set & 32 ? n_vocab / 2 : 0;
        p.top_k = set & 4 ? 0 : 40;
        p.samplers = set & 1 ? backwards : nullptr;
        p.n_samplers = 9;
        exercise_rows(model, n_vocab, p);
        p.mirostat = 1 + set % 2;
        p.mirostat_tau = static_cast<float>(set) / 10.0f;
        exercise_rows(model, n_vocab, p);
    }
}

// Every path through the common stages.
void exercise_samplers(const shimmy_model * model, int32_t n_vocab) {
    const int32_t tokens[] = {0, n_vocab - 1};
    const float values[] = {-infinity, 5.0f};
    for (const int32_t top_k : {0, 1, 40, n_vocab, INT32_MAX}) {
        for (const float top_p : {0.0f, 0.5f, 1.0f}) {
            for (const float min_p : {0.0f, 0.1f, 1.0f}) {
                for (const float temperature : {0.0f, 1e-40f, 1.0f, 1e30f}) {
                    shimmy_sampler_params p = sampler_params();
                    p.top_k = top_k;
                    p.top_p = top_p;
                    p.min_p = min_p;
                    p.temperature = temperature;
                    p.n_logprobs = top_k == 40 ? SHIMMY_MAX_LOGPROBS : -1;
                    p.ignore_eos = top_k == 0;
                    p.bias_tokens = tokens;
                    p.bias_values = values;
                    p.n_bias = 2;
                    exercise_rows(model, n_vocab, p);
                }
            }
        }
    }
    exercise_other_stages(model, n_vocab);
}

std::vector<int32_t> exercise_tokenizer(const shimmy_model * model, int32_t n_vocab) {
    const std::string text = "Hello \xf0\x9f\x99\x82 world <s> \xff\xfe the cat sat on the mat and the dog ran over the hill";
    std::vector<int32_t> tokens(3);
    int32_t n = 0;
    CHECK(shimmy_model_tokenize(model, text.data(), text.size(), true, true, tokens.data(), 3, &n) == SHIMMY_OK);
    tokens.resize(static_cast<size_t>(n));
    CHECK(shimmy_model_tokenize(model, text.data(), text.size(), true, true, tokens.data(), n, &n) == SHIMMY_OK);
    CHECK(shimmy_model_tokenize(model, "", 0, false, false, nullptr, 0, &n) == SHIMMY_OK);
    std::vector<char> bytes(1);
    CHECK(shimmy_model_detokenize(model, tokens.data(), static_cast<int32_t>(tokens.size()), true, bytes.data(), 1, &n) ==
          SHIMMY_OK);
    bytes.resize(static_cast<size_t>(n));
    CHECK(shimmy_model_detokenize(model, tokens.data(), static_cast<int32_t>(tokens.size()), true, bytes.data(), n, &n) ==
          SHIMMY_OK);
    for (int32_t token = 0; token < n_vocab; ++token) {
        char piece[64];
        CHECK(shimmy_model_piece(model, token, piece, 64, &n) == SHIMMY_OK && n <= 64);
        CHECK(shimmy_model_piece(model, token, nullptr, 0, &n) == SHIMMY_OK);
    }
    CHECK(shimmy_model_piece(model, n_vocab, nullptr, 0, &n) == SHIMMY_E_INVALID);
    CHECK(shimmy_model_check_draft(model, model) == SHIMMY_OK);
    return tokens;
}

struct Step {
    std::vector<int32_t> seq_ids, positions, lengths, tokens, guesses;
    std::vector<shimmy_sampler *> samplers;

    void add(int32_t seq_id, int32_t position, const std::vector<int32_t> & run, shimmy_sampler * sampler, int32_t n_guesses = 0) {
        guesses.push_back(n_guesses);
        seq_ids.push_back(seq_id);
        positions.push_back(position);
        lengths.push_back(static_cast<int32_t>(run.size()));
        tokens.insert(tokens.end(), run.begin(), run.end());
        samplers.push_back(sampler);
    }

    int32_t run(shimmy_context * context, shimmy_step_result & result) const {
        const shimmy_step_batch batch{static_cast<int32_t>(seq_ids.size()), seq_ids.data(), positions.data(),
                                      lengths.data(), tokens.data(), samplers.data(), guesses.data()};
        return shimmy_context_step(context, &batch, &result);
    }
};

// Goes on where exercise_steps is: sequence 0 verifies three guesses a step and takes them back, sequence 2 decodes beside it.
// `position` moves to where sequence 0 can go on.
void exercise_guesses(shimmy_context * context, const std::vector<int32_t> & prompt, shimmy_sampler * const * samplers,
                      int32_t & position) {
    shimmy_step_result result{};
    CHECK(shimmy_context_watch(context, 0.1f) == SHIMMY_OK);
    CHECK(shimmy_sampler_look_up(samplers[0], prompt.data(), static_cast<int32_t>(prompt.size())) == SHIMMY_OK);
    int32_t next = prompt[0];
    for (int i = 0; i < 20; ++i) {
        std::vector<int32_t> run(4), guesses(3);
        std::vector<float> chances(3);
        int32_t n = 0;
        CHECK(shimmy_sampler_propose(samplers[0], 3, guesses.data(), chances.data(), &n) == SHIMMY_OK);
        run[0] = next;
        std::copy(guesses.begin(), guesses.end(), run.begin() + 1);  // zeros where nothing is guessed
        Step guessed;
        guessed.add(0, position++, run, samplers[0], 3);
        guessed.add(2, 21 + i, {prompt[0]}, samplers[1]);
        const int32_t status = guessed.run(context, result);
        if (status == SHIMMY_E_INVALID && std::strstr(shimmy_last_error(), "take back") != nullptr) {
            --position;  // a recurrent state: it refuses guesses before anything is computed
            return;
        }
        CHECK(status == SHIMMY_OK && result.n_rows == 5 && result.drawn[4] >= 0);
        next = result.drawn[0];
        int32_t first = 0, last = 0;
        CHECK(shimmy_context_seq_range(context, 0, &first, &last) == SHIMMY_OK && last >= position - 1);
        CHECK(shimmy_context_seq_remove(context, 0, position, -1) == SHIMMY_OK);
    }
}

void exercise_steps(shimmy_context * context, const shimmy_model * model, const std::vector<int32_t> & prompt) {
    shimmy_sampler_params p = sampler_params();
    p.n_logprobs = 5;
    shimmy_sampler * samplers[] = {make_sampler(model, p), make_sampler(model, sampler_params())};
    shimmy_step_result result{};
    Step prefill;
    prefill.add(0, 0, prompt, samplers[0]);
    prefill.add(1, 0, {prompt[0]}, nullptr);
    prefill.add(2, 0, {prompt[0]}, samplers[1]);
    CHECK(prefill.run(context, result) == SHIMMY_OK);
    CHECK(shimmy_context_logits(context, 0) != nullptr && shimmy_context_logits(context, 1) == nullptr);
    int32_t position = static_cast<int32_t>(prompt.size());
    for (int i = 0; i < 20; ++i) {
        CHECK(result.drawn[0] >= 0 && result.samples[0].n_top == 5);
        Step decode;
        decode.add(0, position++, {result.drawn[0]}, samplers[0]);
        decode.add(2, 1 + i, {prompt[0]}, samplers[1]);
        CHECK(decode.run(context, result) == SHIMMY_OK);
    }
    exercise_guesses(context, prompt, samplers, position);
    Step unasked;
    unasked.add(0, position, {prompt[0], prompt[0]}, nullptr, 1);
    CHECK(unasked.run(context, result) == SHIMMY_E_INVALID);
    Step wrong;
    wrong.add(0, 0, prompt, nullptr);
    CHECK(wrong.run(context, result) == SHIMMY_E_INVALID);
    Step none;
    CHECK(none.run(context, result) == SHIMMY_E_INVALID);
    shimmy_sampler_free(samplers[0]);
    shimmy_sampler_free(samplers[1]);
}

// After exercise_steps: sequences 0 to 2 hold something, 3 is empty.
void exercise_memory(shimmy_context * context) {
    size_t size = 0;
    for (const int32_t flags : {0, 1}) {
        CHECK(shimmy_context_state_size(context, 0, flags, &size) == SHIMMY_OK);
        std::vector<uint8_t> state(size);
        const bool saved = shimmy_context_state_get(context, 0, flags, state.data(), &size) == SHIMMY_OK;
        if (saved && flags == 1) {
            int32_t first_held = 0;
            int32_t last_held = 0;
            CHECK(shimmy_context_seq_range(context, 0, &first_held, &last_held) == SHIMMY_OK);
            // Not in every memory.
            if (shimmy_context_seq_fork(context, 0, 3, last_held + 1, state.data(), size) == SHIMMY_OK) {
                CHECK(shimmy_context_seq_fork(context, 0, 3, last_held + 1, state.data(), size) == SHIMMY_E_INVALID);
                CHECK(shimmy_context_seq_remove(context, 3, 0, -1) == SHIMMY_OK);
                CHECK(shimmy_context_seq_fork(context, 0, 3, last_held, state.data(), size) == SHIMMY_E_INVALID);
            }
            CHECK(shimmy_context_seq_remove(context, 3, 0, -1) == SHIMMY_OK);
        }
        if (saved && flags == 0) {
            CHECK(shimmy_context_state_set(context, 3, flags, state.data(), size) == SHIMMY_OK);
            CHECK(shimmy_context_state_set(context, 3, flags, state.data(), size / 2) == SHIMMY_E_INVALID);
            CHECK(shimmy_context_seq_remove(context, 3, 0, -1) == SHIMMY_OK);
        }
    }
    int32_t first = 0;
    int32_t last = 0;
    CHECK(shimmy_context_seq_copy(context, 0, 3, 0, -1) == SHIMMY_OK);
    CHECK(shimmy_context_seq_range(context, 3, &first, &last) == SHIMMY_OK && last > 0);
    CHECK(shimmy_context_seq_copy(context, 0, 3, 0, -1) == SHIMMY_E_INVALID);
    int32_t n_freed = -1;
    CHECK(shimmy_context_seq_leave(context, 3, &n_freed) == SHIMMY_OK && n_freed >= 0);
    CHECK(shimmy_context_seq_leave(context, 4, &n_freed) == SHIMMY_E_INVALID);
    shimmy_context_seq_remove(context, 3, 5, -1);  // not in every memory
    CHECK(shimmy_context_seq_remove(context, 3, 0, -1) == SHIMMY_OK);
    CHECK(shimmy_context_seq_remove(context, 4, 0, -1) == SHIMMY_E_INVALID);
    CHECK(shimmy_context_set_threads(context, 2, 1) == SHIMMY_OK);
    CHECK(shimmy_context_set_adapters(context, nullptr, nullptr, 0) == SHIMMY_OK);
    CHECK(shimmy_context_set_adapters(context, nullptr, nullptr, 1) == SHIMMY_E_INVALID);
    CHECK(shimmy_context_clear(context) == SHIMMY_OK);
}

void exercise_limits(shimmy_context * context, const std::vector<int32_t> & prompt) {
    shimmy_step_result result{};
    int32_t status = SHIMMY_OK;
    for (int32_t position = 0; status == SHIMMY_OK && position < 2000; position += static_cast<int32_t>(prompt.size())) {
        Step step;
        step.add(0, position, prompt, nullptr);
        status = step.run(context, result);
    }
    CHECK(status == SHIMMY_OK || status == SHIMMY_E_KV_FULL);
    CHECK(shimmy_context_clear(context) == SHIMMY_OK);
    std::atomic<bool> started{false};
    std::thread other([&] {
        while (!started) {
            std::this_thread::yield();
        }
        shimmy_context_interrupt(context, true);
    });
    do {
        started = true;
        CHECK(shimmy_context_clear(context) == SHIMMY_OK);
        Step step;
        step.add(0, 0, prompt, nullptr);
        status = step.run(context, result);
    } while (status == SHIMMY_OK);
    other.join();
    CHECK(status == SHIMMY_E_CANCELLED);
    shimmy_context_interrupt(context, false);
}

void exercise_context(const shimmy_model * model, const std::vector<int32_t> & prompt, bool unified) {
    shimmy_context_params p{};
    shimmy_context_default_params(&p);
    p.n_ctx = 1024;
    p.n_batch = 128;
    p.n_ubatch = 64;
    p.n_seq_max = 4;
    p.n_outputs_max = 8;
    p.n_threads = 1;
    p.n_threads_batch = 2;
    p.kv_unified = unified;
    shimmy_context * context = nullptr;
    const int32_t status = shimmy_context_new(model, &p, &context);
    if (status == SHIMMY_E_INVALID && std::strstr(shimmy_last_error(), "embeddings") != nullptr) {
        return;
    }
    CHECK(status == SHIMMY_OK);
    char * json = nullptr;
    CHECK(shimmy_context_facts(context, &json) == SHIMMY_OK);
    shimmy_string_free(json);
    exercise_steps(context, model, prompt);
    exercise_memory(context);
    exercise_limits(context, prompt);
    shimmy_context_free(context);
    p.type_k = "nonsense";
    CHECK(shimmy_context_new(model, &p, &context) == SHIMMY_E_INVALID);
    CHECK(std::strcmp(shimmy_last_error_param(), "type_k") == 0);
}

// The device's chains go for each run that needs its whole row, and come back.
void exercise_device_sampling(const shimmy_model * model, const std::vector<int32_t> & prompt) {
    shimmy_context_params p{};
    shimmy_context_default_params(&p);
    p.n_ctx = 1024;
    p.n_batch = p.n_ubatch = 128;
    p.n_seq_max = p.n_outputs_max = 4;
    p.n_threads = p.n_threads_batch = 1;
    p.device_sampling = 1;
    shimmy_context * context = nullptr;
    if (shimmy_context_new(model, &p, &context) != SHIMMY_OK) {
        CHECK(std::strstr(shimmy_last_error(), "embeddings") != nullptr);
        return;
    }
    shimmy_sampler_params narrow{};
    shimmy_sampler_default_params(&narrow);
    narrow.top_k = 40;
    shimmy_sampler_params whole = narrow;
    whole.top_k = 0;
    shimmy_sampler * samplers[] = {make_sampler(model, narrow), make_sampler(model, whole)};
    shimmy_step_result result{};
    int n_kept = 0;
    for (int32_t i = 0; i < 250; ++i) {
        Step step;
        step.add(0, i, {prompt[0]}, samplers[i % 100 == 20 ? 1 : 0]);
        CHECK(step.run(context, result) == SHIMMY_OK && result.drawn[0] >= 0);
        n_kept += shimmy_context_logits(context, 0) == nullptr ? 1 : 0;
    }
    CHECK(n_kept > 20 && n_kept < 150);
    shimmy_context_free(context);
    for (shimmy_sampler * sampler : samplers) {
        shimmy_sampler_free(sampler);
    }
}

void exercise_embedder(const shimmy_model * model, const std::vector<int32_t> & prompt, bool rank) {
    shimmy_context_params p{};
    shimmy_context_default_params(&p);
    p.n_ctx = 512;
    p.n_batch = p.n_ubatch = p.n_outputs_max = 128;
    p.n_seq_max = 3;
    p.n_threads = 1;
    p.n_threads_batch = 2;
    shimmy_embedder * embedder = nullptr;
    CHECK(shimmy_embedder_new(model, &p, rank, &embedder) == SHIMMY_OK);
    char * json = nullptr;
    CHECK(shimmy_embedder_facts(embedder, &json) == SHIMMY_OK);
    const bool whole = std::strstr(json, "\"whole\":true") != nullptr;
    const int32_t width = std::atoi(std::strstr(json, "\"width\":") + std::strlen("\"width\":"));
    shimmy_string_free(json);
    const int32_t n = static_cast<int32_t>(prompt.size()) < 60 ? static_cast<int32_t>(prompt.size()) : 60;
    std::vector<int32_t> tokens(prompt.begin(), prompt.begin() + n);
    tokens.insert(tokens.end(), prompt.begin(), prompt.begin() + n);
    const int32_t ids[] = {2, 0};
    const int32_t lengths[] = {n, n};
    const shimmy_embed_batch batch{2, ids, lengths, tokens.data()};
    std::vector<float> out(static_cast<size_t>(width));
    CHECK(shimmy_embedder_step(embedder, &batch) == SHIMMY_OK);
    CHECK(shimmy_embedder_step(embedder, &batch) == (whole ? SHIMMY_E_INVALID : SHIMMY_OK));
    for (const int32_t pooling : {SHIMMY_POOLING_MEAN, SHIMMY_POOLING_CLS, SHIMMY_POOLING_LAST, SHIMMY_POOLING_RANK}) {
        const int32_t wanted = rank == (pooling == SHIMMY_POOLING_RANK) ? SHIMMY_OK : SHIMMY_E_INVALID;
        CHECK(shimmy_embedder_read(embedder, 2, pooling, width, true, out.data()) == wanted);
        CHECK(shimmy_embedder_read(embedder, 1, pooling, 1, false, out.data()) == SHIMMY_E_INVALID);
    }
    float sum = 0.0f;
    for (int32_t run = -1; run < 3; ++run) {
        const float * rows = shimmy_embedder_rows(embedder, run);
        CHECK((rows != nullptr) == (!rank && run >= 0 && run < 2));
        for (int32_t i = 0; rows != nullptr && i < n * width; ++i) {
            sum += rows[i];
        }
    }
    CHECK(std::isfinite(sum));
    CHECK(shimmy_embedder_release(embedder, 2) == SHIMMY_OK);
    shimmy_embedder_interrupt(embedder, true);
    CHECK(shimmy_embedder_clear(embedder) == SHIMMY_OK);
    CHECK(shimmy_embedder_step(embedder, &batch) == SHIMMY_E_CANCELLED);
    shimmy_embedder_interrupt(embedder, false);
    CHECK(shimmy_embedder_step(embedder, &batch) == SHIMMY_OK);
    shimmy_embedder_free(embedder);
}

void exercise_chat(const shimmy_model * model) {
    shimmy_chat * chat = nullptr;
    CHECK(shimmy_chat_new(model, "{{ raise_exception('no') }}", 5.0, &chat) == SHIMMY_E_TEMPLATE);
    CHECK(shimmy_chat_new(model, "{% for a in range(9) %}{{ 'x' * 999999999 }}{% endfor %}", 5.0, &chat) == SHIMMY_E_TEMPLATE);
    CHECK(shimmy_chat_new(model, nullptr, 0.0, &chat) == SHIMMY_E_INVALID);
    CHECK(shimmy_chat_new(model, nullptr, 5.0, &chat) == SHIMMY_OK);
    char * json = nullptr;
    shimmy_chat_parser * parser = nullptr;
    for (const char * body : {"", "[]", "{\"messages\": []}", "{\"messages\": [5]}"}) {
        CHECK(shimmy_chat_apply(chat, body, &parser, &json) != SHIMMY_OK);
    }
    const char * body = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}";
    CHECK(shimmy_chat_apply(chat, body, &parser, &json) == SHIMMY_OK);
    CHECK(parser == nullptr);
    shimmy_string_free(json);
    shimmy_chat_free(chat);
}

constexpr const char * tool_template = R"({% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}{% for m in messages -%}
<|im_start|>{{ m.role }}
{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %})";

// A tool call byte by byte, whole, and cut anywhere.
void exercise_parser(const shimmy_model * model) {
    shimmy_chat * chat = nullptr;
    CHECK(shimmy_chat_new(model, tool_template, 5.0, &chat) == SHIMMY_OK);
    const char * body =
        R"({"messages": [{"role": "user", "content": "Hello"}], "tools": "[{\"type\": \"function\", \"function\": )"
        R"({\"name\": \"look\", \"parameters\": {\"type\": \"object\", \"properties\": {\"at\": {\"type\": \"string\"}}}}}]"})";
    const std::string answer = "Let me <look>.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"a \\\"b\\\" \\u00e9\"}}\n</tool_call>";
    for (size_t piece = 1; piece <= answer.size(); ++piece) {
        char * json = nullptr;
        shimmy_chat_parser * parser = nullptr;
        CHECK(shimmy_chat_apply(chat, body, &parser, &json) == SHIMMY_OK);
        shimmy_string_free(json);
        CHECK(parser != nullptr);
        const size_t length = piece % 2 == 0 ? answer.size() : piece;  // every second time it is cut short
        for (size_t at = 0; at < length; at += piece) {
            const char * delta = nullptr;
            size_t n_delta = 0;
            CHECK(shimmy_chat_parser_feed(parser, answer.data() + at, std::min(piece, length - at), &delta, &n_delta) == SHIMMY_OK);
        }
        CHECK(shimmy_chat_parser_finish(parser, &json) == SHIMMY_OK);
        CHECK(length < answer.size() || std::string(json).find("\"parsed\":true") != std::string::npos);
        shimmy_string_free(json);
        shimmy_chat_parser_free(parser);
    }
    shimmy_chat_free(chat);
}

void exercise(const char * path) {
    shimmy_model_params params{};
    shimmy_model_default_params(&params);
    shimmy_model * model = nullptr;
    CHECK(shimmy_model_load("/absent.gguf", &params, nullptr, nullptr, &model) == SHIMMY_E_MODEL);
    CHECK(shimmy_model_load(path, &params, refuse, nullptr, &model) == SHIMMY_E_CANCELLED);
    CHECK(shimmy_model_load(path, &params, accept, nullptr, &model) == SHIMMY_OK);
    const Facts facts = read_facts(model);
    const std::vector<int32_t> prompt = exercise_tokenizer(model, facts.n_vocab);
    shimmy_adapter * adapter = nullptr;
    CHECK(shimmy_adapter_load(model, path, &adapter) == SHIMMY_E_INVALID && adapter == nullptr);
    const char * devices[] = {"absent"};
    params.devices = devices;
    params.n_devices = 1;
    shimmy_model * other = nullptr;
    CHECK(shimmy_model_load(path, &params, accept, nullptr, &other) == SHIMMY_E_INVALID && other == nullptr);
    exercise_samplers(model, facts.n_vocab);
    exercise_grammar(model, facts.n_vocab);
    exercise_context(model, prompt, true);
    exercise_context(model, prompt, false);
    exercise_device_sampling(model, prompt);
    exercise_embedder(model, prompt, false);
    exercise_embedder(model, prompt, true);
    if (facts.has_template) {
        exercise_chat(model);
        exercise_parser(model);
    }
    shimmy_model_free(model);
}

}  // namespace

int main(int argc, char ** argv) {
    CHECK(argc > 1);
    CHECK(shimmy_abi_version() == SHIMMY_ABI_VERSION);
    CHECK(shimmy_start(-1, 5) == SHIMMY_OK);
    char * json = nullptr;
    CHECK(shimmy_build_facts(&json) == SHIMMY_OK);
    shimmy_string_free(json);
    exercise_kernels();
    for (int i = 1; i < argc; ++i) {
        std::printf("%s\n", argv[i]);
        CHECK(shimmy_share_cores(i % 2 == 1) == SHIMMY_OK);
        CHECK(shimmy_share_cores(i % 2 == 1) == SHIMMY_OK);
        exercise(argv[i]);
    }
    CHECK(shimmy_share_cores(false) == SHIMMY_OK);
    return 0;
}
