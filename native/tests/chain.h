// llama.cpp's own sampler chain over a given row of logits, as its server builds it (common_sampler_init): what the tests compare
// our sampler with, and what scripts/bench sampler measures it against. A shared library of its own, built on demand.
// cffi parses what is between the two cdef marks.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHAIN_API __attribute__((visibility("default")))

/* cdef begin */
typedef struct chain_params {
    float temperature, dynatemp_range, dynatemp_exponent;
    int32_t top_k;
    float top_p, min_p, typical_p, top_n_sigma, xtc_probability, xtc_threshold;
    int32_t min_keep;
    float repeat_penalty, presence_penalty, frequency_penalty;
    int32_t repeat_last_n;
    float dry_multiplier, dry_base;
    int32_t dry_allowed_length, dry_penalty_last_n;
    int32_t mirostat;
    float mirostat_tau, mirostat_eta;
    uint32_t seed;
    const char * const * breakers;
    int32_t n_breakers;
    const char * const * samplers;
    int32_t n_samplers;
    const int32_t * bias_tokens;
    const float * bias_values;
    int32_t n_bias;
} chain_params;

// Loads a GGUF file's vocabulary; NULL where it cannot. Freed with chain_model_free.
CHAIN_API void * chain_model(const char * path);
CHAIN_API void chain_model_free(void * model);

// Freed with chain_free; the model must outlive it.
CHAIN_API void * chain_new(void * model, const chain_params * params);
CHAIN_API void chain_free(void * chain);
CHAIN_API void chain_accept(void * chain, int32_t token);

// Applies the chain to a row: returns how many survive, with their ids and logits in its order, and which of them was drawn.
// `tokens` and `logits` have room for n_vocab.
CHAIN_API int32_t chain_apply(void * chain, const float * row, int32_t n_vocab, int32_t * tokens, float * logits,
                              int32_t * selected);

// What each of `n_rows` rows takes with the chain, in nanoseconds, with the filling of its array and the accepting of its token;
// with n_top >= 0 also with the logprobs that llama-server makes.
CHAIN_API void chain_time(void * chain, const float * rows, int32_t n_rows, int32_t n_vocab, int32_t n_top, double * out);

// The same with llama.cpp's greedy sampler alone, the cheapest it has.
CHAIN_API void chain_time_greedy(const float * rows, int32_t n_rows, int32_t n_vocab, double * out);

// The same with our sampler: `sample` is shimmy_sampler_sample of the library that made `sampler`; `result` has room for its answer.
CHAIN_API void chain_time_ours(void * sample, void * sampler, const float * rows, int32_t n_rows, int32_t n_vocab, void * result,
                               double * out);
// llama.cpp's grammar sampler for a GBNF text with the root rule "root"; `lazy` with regular expressions and tokens that wake it. NULL
// where it refuses the text. Freed with chain_grammar_free; the model must outlive it.
CHAIN_API void * chain_grammar_new(void * model, const char * gbnf, int32_t lazy, const char * const * patterns,
                                   int32_t n_patterns, const int32_t * tokens, int32_t n_tokens);
CHAIN_API void chain_grammar_free(void * grammar);

// Fills out[n_vocab] with 1 for each token that may come next, else 0. Not after an accept that gave 0.
CHAIN_API void chain_grammar_allowed(void * grammar, int32_t n_vocab, uint8_t * out);

// Takes the next token; 0 where it cannot follow.
CHAIN_API int32_t chain_grammar_accept(void * grammar, int32_t token);

// A request as llama-server takes it: messages and tools are OpenAI's JSON. NULL where llama.cpp refuses it. Freed with
// chain_chat_free.
CHAIN_API void * chain_chat_new(void * model, const char * chat_template, const char * messages, const char * tools);
CHAIN_API void chain_chat_free(void * chat);
CHAIN_API const char * chain_chat_prompt(void * chat);

// The answer parsed (common_chat_parse), as JSON: content, reasoning, calls. NULL where it does not have the format. Valid until the
// next call.
CHAIN_API const char * chain_chat_parse(void * chat, const char * text, int32_t partial);

// One product of a matrix of `type` (its bytes as in a file) with columns of floats, and one attention over 16-bit cells (laid out as
// a graph has them: cells of `n` numbers each, one key head after the other; mask null or n_queries x n_cells; sinks null or n_heads),
// on the CPU: by ours where it takes them, else by ggml's reference. Return whether ours would take it, -1 for an error.
CHAIN_API int chain_matmul(int32_t type, int64_t n, int64_t n_rows, int64_t n_columns, const void * matrix, const float * columns,
                           float * out, int32_t n_threads, int ours);
typedef struct chain_attention_shape {
    int64_t n_keys, n_values, n_cells, n_queries, n_heads, n_key_heads;
    float scale, max_bias;
} chain_attention_shape;
CHAIN_API int chain_attention(const chain_attention_shape * shape, const float * queries, const uint16_t * keys,
                              const uint16_t * values, const uint16_t * mask, const float * sinks, float * out,
                              int32_t n_threads, int ours);
/* cdef end */

#ifdef __cplusplus
}
#endif
