// The grammars' part of exercise.cpp.
#include "exercise_grammar.h"

#include "check.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

// Draws under a grammar until it leaves nothing: mostly tokens that are refused and drawn again.
void draw_under(const shimmy_model * model, const shimmy_grammar * grammar, int32_t n_vocab, uint32_t seed) {
    shimmy_sampler_params p{};
    shimmy_sampler_default_params(&p);
    p.temperature = 2.0f;
    p.seed = seed;
    shimmy_sampler * sampler = nullptr;
    CHECK(shimmy_sampler_new(model, &p, nullptr, 0, &sampler) == SHIMMY_OK);
    CHECK(shimmy_sampler_set_grammar(sampler, grammar) == SHIMMY_OK);
    std::vector<float> row(static_cast<size_t>(n_vocab));
    shimmy_sample sample{};
    for (uint32_t step = 0; step < 200 && sample.token >= 0; ++step) {
        for (size_t i = 0; i < row.size(); ++i) {
            row[i] = static_cast<float>((static_cast<uint32_t>(i) * 2654435761u + step * 40503u + seed * 69069u) % 1009) / 100.0f;
        }
        CHECK(shimmy_sampler_sample(sampler, row.data(), n_vocab, &sample) == SHIMMY_OK);
    }
    shimmy_sampler_free(sampler);
}

// Whether the text is a grammar; draws under it in two threads at once.
bool exercise_text(const shimmy_model * model, const std::string & text, int32_t n_vocab, bool lazy) {
    const shimmy_trigger triggers[] = {{SHIMMY_TRIGGER_WORD, -1, "th"},
                                       {SHIMMY_TRIGGER_TOKEN, 3, nullptr},
                                       {SHIMMY_TRIGGER_PATTERN, -1, "a(b)+"},
                                       {SHIMMY_TRIGGER_PATTERN_FULL, -1, "[a-z]*(e)"}};
    const int32_t preserved[] = {0, n_vocab - 1};
    const char * const ends[] = {"in", "er"};
    const shimmy_grammar_params p{text.data(), text.size(), "root", lazy, triggers, lazy ? 4 : 0, preserved, 2, "on", ends, 2, true};
    shimmy_grammar * grammar = nullptr;
    if (shimmy_grammar_new(model, &p, &grammar) != SHIMMY_OK) {
        CHECK(std::strcmp(shimmy_last_error_param(), "grammar") == 0);
        return false;
    }
    std::thread other([&] { draw_under(model, grammar, n_vocab, 1); });
    draw_under(model, grammar, n_vocab, 2);
    other.join();
    CHECK(shimmy_grammar_bytes(grammar) > 0);
    shimmy_grammar_free(grammar);
    return true;
}

int32_t find_piece(const shimmy_model * model, int32_t n_vocab, const std::string & text) {
    for (int32_t token = 0; token < n_vocab; ++token) {
        char piece[8];
        int32_t n = 0;
        if (shimmy_model_piece(model, token, piece, sizeof piece, &n) == SHIMMY_OK && n <= 8 && text == std::string(piece, static_cast<size_t>(n))) {
            return token;
        }
    }
    return -1;
}

// Brackets that nest until one automaton is full and the sampler, alone with it, goes on in another.
void exercise_brackets(const shimmy_model * model, int32_t n_vocab) {
    const int32_t bracket = find_piece(model, n_vocab, "(");
    if (bracket < 0) {
        return;
    }
    const std::string text = R"g(root ::= "(" root ")" | "")g";
    const shimmy_grammar_params params{text.data(), text.size(), "root", false, nullptr, 0, nullptr, 0, nullptr, nullptr, 0, false};
    shimmy_grammar * grammar = nullptr;
    CHECK(shimmy_grammar_new(model, &params, &grammar) == SHIMMY_OK);
    shimmy_sampler_params p{};
    shimmy_sampler_default_params(&p);
    p.temperature = 0.0f;
    shimmy_sampler * sampler = nullptr;
    CHECK(shimmy_sampler_new(model, &p, nullptr, 0, &sampler) == SHIMMY_OK);
    CHECK(shimmy_sampler_set_grammar(sampler, grammar) == SHIMMY_OK);
    std::vector<float> row(static_cast<size_t>(n_vocab));
    shimmy_sample sample{};
    size_t most = 0;
    for (int depth = 0; depth < 40'000; ++depth) {
        std::fill(row.begin(), row.end(), 0.0f);
        row[static_cast<size_t>(bracket)] = 100.0f;
        CHECK(shimmy_sampler_sample(sampler, row.data(), n_vocab, &sample) == SHIMMY_OK && sample.token == bracket);
        most = depth % 100 == 0 ? std::max(most, shimmy_grammar_bytes(grammar)) : most;
    }
    CHECK(shimmy_grammar_bytes(grammar) < most);  // another automaton
    shimmy_grammar_free(grammar);
    shimmy_sampler_free(sampler);
}

std::string grammar_of_schema() {
    char * out = nullptr;
    const std::string wrong = R"({"items": {"$ref": "#"}})";
    CHECK(shimmy_schema_to_grammar(wrong.data(), wrong.size(), &out) == SHIMMY_E_INVALID);
    CHECK(std::strcmp(shimmy_last_error_param(), "json_schema") == 0);
    const std::string schema = R"({"properties": {"a": {"type": "string", "pattern": "^[^\\d\"]{1,5}$"},
        "b": {"type": "integer", "minimum": -7, "maximum": 300}, "c": {"items": {"$ref": "#/properties/a"}}},
        "required": ["a"], "additionalProperties": {"enum": ["é€😀", null]}})";
    CHECK(shimmy_schema_to_grammar(schema.data(), schema.size(), &out) == SHIMMY_OK);
    const std::string text = out;
    shimmy_string_free(out);
    return text;
}

}  // namespace

void exercise_grammar(const shimmy_model * model, int32_t n_vocab) {
    const std::string right[] = {
        grammar_of_schema(),
        "root ::= .*",
        R"g(root ::= "(" root ")" | [^é€]{2,7} !<[5]>? | <[3]> "😀"*)g",
        "root ::= s\ns ::= \"t\" a b | [a-z] b a | .\na ::= s \"y\" | s \"z\" | s\nb ::= s \"z\" | s \"y\" | s",
    };
    const std::string wrong[] = {"root ::= root \"a\"", "root ::= (", "root ::= \"\xC3\"", "root ::= " + std::string(30'000, '('),
                                 "root ::= \"x\"{1,999999}", ""};
    exercise_brackets(model, n_vocab);
    for (const bool lazy : {false, true}) {
        for (const std::string & text : right) {
            CHECK(exercise_text(model, text, n_vocab, lazy));
        }
        for (const std::string & text : wrong) {
            CHECK(!exercise_text(model, text, n_vocab, lazy));
        }
    }
}
