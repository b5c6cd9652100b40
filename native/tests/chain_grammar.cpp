// llama.cpp's own grammar sampler over all tokens of a vocabulary (chain.h).
#include "chain.h"

#include "llama.h"
#include "sampling.h"

#include <cmath>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace {

struct FreeSampler {
    void operator()(llama_sampler * sampler) const { llama_sampler_free(sampler); }
};

struct ChainGrammar {
    std::unique_ptr<llama_sampler, FreeSampler> sampler;
    std::vector<llama_token_data> array;
};

}  // namespace

extern "C" {

void * chain_grammar_new(void * model, const char * gbnf, int32_t lazy, const char * const * patterns, int32_t n_patterns,
                         const int32_t * tokens, int32_t n_tokens) {
    const llama_vocab * vocab = llama_model_get_vocab(static_cast<llama_model *>(model));
    std::vector<const char *> texts(patterns, patterns + n_patterns);
    auto grammar = std::make_unique<ChainGrammar>();
    try {
        grammar->sampler.reset(lazy != 0 ? llama_sampler_init_grammar_lazy_patterns(vocab, gbnf, "root", texts.data(), texts.size(),
                                                                                    tokens, static_cast<size_t>(n_tokens))
                                         : llama_sampler_init_grammar(vocab, gbnf, "root"));
    } catch (const std::exception &) {
        return nullptr;
    }
    return grammar->sampler ? grammar.release() : nullptr;
}

void chain_grammar_free(void * grammar) { delete static_cast<ChainGrammar *>(grammar); }

void chain_grammar_allowed(void * grammar, int32_t n_vocab, uint8_t * out) {
    auto & g = *static_cast<ChainGrammar *>(grammar);
    g.array.resize(static_cast<size_t>(n_vocab));
    for (int32_t i = 0; i < n_vocab; ++i) {
        g.array[static_cast<size_t>(i)] = {i, 0.0f, 0.0f};
    }
    llama_token_data_array all{g.array.data(), g.array.size(), -1, false};
    llama_sampler_apply(g.sampler.get(), &all);
    for (int32_t i = 0; i < n_vocab; ++i) {
        out[i] = g.array[static_cast<size_t>(i)].logit == 0.0f ? 1 : 0;
    }
}

int32_t chain_grammar_accept(void * grammar, int32_t token) {
    try {
        llama_sampler_accept(static_cast<ChainGrammar *>(grammar)->sampler.get(), token);
        return 1;
    } catch (const std::exception &) {
        return 0;
    }
}

}  // extern "C"
