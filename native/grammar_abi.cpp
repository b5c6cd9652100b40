// The C ABI of grammars: shimmy_grammar_*, shimmy_sampler_set_grammar.
#include "error.h"
#include "gbnf.h"
#include "grammar.h"
#include "model.h"
#include "sampler.h"
#include "shimmy.h"

#include <memory>
#include <string>

using namespace shimmy;

namespace {

int32_t find_token(const shimmy_model & model, const std::string & text) {
    if (llama_vocab_type(model.vocab) == LLAMA_VOCAB_TYPE_NONE || text.size() > 256) {
        return -1;
    }
    llama_token tokens[2];
    const int32_t n = llama_tokenize(model.vocab, text.data(), static_cast<int32_t>(text.size()), tokens, 2, false, true);
    return n == 1 ? tokens[0] : -1;
}

Reasoning read_reasoning(const shimmy_grammar_params & p) {
    Reasoning out;
    if (!p.lazy || p.reasoning_start == nullptr || *p.reasoning_start == '\0') {
        return out;
    }
    require_param(p.n_reasoning_ends > 0 && p.reasoning_ends != nullptr, "reasoning", "must have an end");
    out.start = p.reasoning_start;
    out.begun = p.reasoning_begun;
    for (int32_t i = 0; i < p.n_reasoning_ends; ++i) {
        require(p.reasoning_ends[i] != nullptr, "a pointer is NULL");
        out.ends.push_back(p.reasoning_ends[i]);
        require_param(!out.ends.back().empty(), "reasoning", "must not end with nothing");
    }
    return out;
}

Triggers read_triggers(const shimmy_model & model, const shimmy_grammar_params & p) {
    require(p.n_triggers >= 0 && (p.triggers != nullptr || p.n_triggers == 0), "triggers do not fit n_triggers");
    require_param(!p.lazy || p.n_triggers > 0, "triggers", "must be given for a lazy grammar: it would never wake");
    Triggers triggers;
    for (int32_t i = 0; i < p.n_triggers; ++i) {
        const shimmy_trigger & trigger = p.triggers[i];
        require_param(trigger.kind >= SHIMMY_TRIGGER_WORD && trigger.kind <= SHIMMY_TRIGGER_PATTERN_FULL, "triggers",
                      "must be of kind 0..3");
        if (trigger.kind == SHIMMY_TRIGGER_TOKEN) {
            require_param(trigger.token >= 0 && trigger.token < model.n_vocab, "triggers", "must be tokens of the vocabulary");
            triggers.tokens.push_back(trigger.token);
            continue;
        }
        require(trigger.text != nullptr, "a pointer is NULL");
        switch (trigger.kind) {
            case SHIMMY_TRIGGER_WORD: triggers.add_word(trigger.text); break;
            case SHIMMY_TRIGGER_PATTERN: triggers.add_pattern(trigger.text); break;
            default: triggers.add_full_pattern(trigger.text); break;
        }
    }
    triggers.reasoning = read_reasoning(p);
    return triggers;
}

}  // namespace

extern "C" {

int32_t shimmy_grammar_new(const shimmy_model * model, const shimmy_grammar_params * params, shimmy_grammar ** out) {
    return guarded([&] {
        require(model != nullptr && params != nullptr && out != nullptr, "a pointer is NULL");
        require(params->text != nullptr && params->root != nullptr, "a pointer is NULL");
        require(params->n_preserved >= 0 && (params->preserved != nullptr || params->n_preserved == 0), "preserved does not fit n_preserved");
        Triggers triggers = read_triggers(*model, *params);
        const std::string text(params->text, params->n_text);
        Rules rules = parse_gbnf(text, params->root, model->n_vocab, [&](const std::string & t) { return find_token(*model, t); });
        auto compiled = std::make_shared<Compiled>(std::move(rules), model->texts());
        for (int32_t i = 0; i < params->n_preserved; ++i) {
            const int32_t token = params->preserved[i];
            require_param(token >= 0 && token < model->n_vocab, "preserved", "must be tokens of the vocabulary");
            compiled->preserved[token] = compiled->vocabulary->full_text(token);
        }
        *out = new shimmy_grammar{std::make_shared<Grammar>(std::move(compiled), params->lazy, std::move(triggers))};
    });
}

void shimmy_grammar_free(shimmy_grammar * grammar) { delete grammar; }

size_t shimmy_grammar_bytes(const shimmy_grammar * grammar) { return grammar == nullptr ? 0 : grammar->shared->bytes(); }

int32_t shimmy_sampler_set_grammar(shimmy_sampler * sampler, const shimmy_grammar * grammar) {
    return guarded([&] {
        require(sampler != nullptr && grammar != nullptr, "a pointer is NULL");
        require(grammar->shared->compiled().vocabulary->size() == sampler->n_vocab(), "the grammar was made for another model");
        sampler->constrain(std::make_unique<GrammarConstraint>(grammar->shared));
    });
}

}  // extern "C"
