// The C ABI of shimmy over llama.cpp: opaque handles, ints, arrays, UTF-8 strings, JSON where structure is deep.
//
// This file is compiled by C++ and parsed by cffi (everything between the two cdef marks), so it holds no macro but
// plain integers and SHIMMY_API.
//
// Rules that hold for every function:
// - No C++ exception crosses. A call returns SHIMMY_OK or another status; shimmy_last_error() then gives one line, valid
//   until the next call in the same thread.
// - What a function hands out through `out` belongs to the caller, who gives it back with the matching _free.
//   Pointers inside shimmy_step_result belong to the context and are valid until its next step.
// - A context, and the samplers used in its steps, belong to one thread at a time. A model may be shared by threads.
// - Everything that llama.cpp would abort() on and that can be known beforehand is checked first.
#ifndef SHIMMY_H
#define SHIMMY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SHIMMY_API __declspec(dllexport)
#else
#define SHIMMY_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* cdef begin */
// Raised with every change of what stands between these marks: Python refuses a library that was built before it.
#define SHIMMY_ABI_VERSION 6

#define SHIMMY_OK 0
#define SHIMMY_E_INVALID 1    // an argument out of its range
#define SHIMMY_E_MODEL 2      // the model file cannot be used
#define SHIMMY_E_MEMORY 3     // not enough memory
#define SHIMMY_E_KV_FULL 4    // no room in the KV cache; nothing was changed
#define SHIMMY_E_CANCELLED 5  // stopped by the progress function or by shimmy_context_interrupt
#define SHIMMY_E_COMPUTE 6    // llama.cpp failed while computing; the sequences of the step are to be dropped
#define SHIMMY_E_TEMPLATE 7   // the chat template failed
#define SHIMMY_E_INTERNAL 8   // a C++ exception that none of the above describes

#define SHIMMY_MAX_LOGPROBS 20

#define SHIMMY_TOKEN_EOG 1         // flags of a sampled token: it ends the generation
#define SHIMMY_TOKEN_NO_LOGITS 2   // the model gave no finite logits; the token is -1
#define SHIMMY_TOKEN_NO_CHOICE 4   // no token of the row can follow under the grammar; the token is -1
#define SHIMMY_TOKEN_TOO_COSTLY 8  // the grammar can be read in too many ways at once; the token is -1

typedef struct shimmy_model shimmy_model;
typedef struct shimmy_context shimmy_context;
typedef struct shimmy_sampler shimmy_sampler;
typedef struct shimmy_chat shimmy_chat;
typedef struct shimmy_adapter shimmy_adapter;
typedef struct shimmy_grammar shimmy_grammar;
typedef struct shimmy_chat_parser shimmy_chat_parser;

// ---- process ------------------------------------------------------------------------------------------------------

SHIMMY_API int32_t shimmy_abi_version(void);

// One line about the last failed call of this thread; never NULL. Owned by the library.
SHIMMY_API const char * shimmy_last_error(void);

// The parameter that line is about, by its name in a struct below; "" where it is about none. Owned by the library.
SHIMMY_API const char * shimmy_last_error_param(void);

// Frees a string that was handed out by a function below. NULL is allowed.
SHIMMY_API void shimmy_string_free(char * text);

// Starts the back ends and sends llama.cpp's log to file descriptor `log_fd` from `min_level` on (ggml levels: 1 debug,
// 2 info, 3 warning, 4 error, 5 nothing). Log errors are kept for shimmy_last_error as well. May be called again to change the log.
SHIMMY_API int32_t shimmy_start(int32_t log_fd, int32_t min_level);

// On Linux, asks the kernel to end this process when the thread that started it ends; elsewhere does nothing.
SHIMMY_API void shimmy_end_with_parent(void);

// With `on`, threads that wait for one another sleep soon instead of spinning: for as long as others use the cores, too. Off at
// the start. Does nothing where ggml has pools of its own. May be called at any time, from any thread.
SHIMMY_API int32_t shimmy_share_cores(bool on);

// Build and devices as JSON: {"backend", "llama_cpp", "system_info", "devices": [{"name", "description", "type", "memory_free",
// "memory_total"}]}. `out` is freed with shimmy_string_free.
SHIMMY_API int32_t shimmy_build_facts(char ** out);

// ---- model --------------------------------------------------------------------------------------------------------

typedef struct shimmy_model_params {
    int32_t n_gpu_layers;        // layers on the GPU; negative: all
    int32_t split_mode;          // llama_split_mode: 0 none, 1 layer, 2 row, 3 tensor
    int32_t main_gpu;            // which of the devices has the whole model with split mode none
    int32_t load_mode;           // llama_load_mode: -1 auto, 0 read, 1 mmap, 2 mlock, 3 mmap and mlock, 4 direct
    const float * tensor_split;  // [n_tensor_split] share of each device; NULL: even
    int32_t n_tensor_split;      // at most one for each device
    const char * const * devices;  // [n_devices] GPUs by the names of shimmy_build_facts
    int32_t n_devices;           // 0: all GPUs; -1: none
    int32_t n_cpu_moe;           // layers whose experts stay in the CPU's memory; -1: all
    bool use_extra_bufts;        // repack weights for the CPU
    bool no_host;                // bypass the host buffer
    bool check_tensors;          // look for invalid values in the weights
    bool vocab_only;             // tokenizer only, no weights
} shimmy_model_params;

// Called with 0..1 while loading, from the loading thread; returning false cancels.
typedef bool (*shimmy_progress_fn)(float progress, void * user);

SHIMMY_API void shimmy_model_default_params(shimmy_model_params * out);

// Loads a GGUF file (of a split model: its first part). `progress` may be NULL.
SHIMMY_API int32_t shimmy_model_load(const char * path, const shimmy_model_params * params, shimmy_progress_fn progress,
                                     void * user, shimmy_model ** out);
SHIMMY_API void shimmy_model_free(shimmy_model * model);

// The same without weights, to measure before loading: contexts made of it say in their facts what memory they would take, and must
// not be used for anything else. Where `n_vocab` is above 0 the vocabulary is left out, too, and has that many tokens without a name;
// `architecture` is the file's general.architecture.
SHIMMY_API int32_t shimmy_model_outline(const char * path, const shimmy_model_params * params, const char * architecture,
                                        int32_t n_vocab, shimmy_model ** out);

// What llama.cpp knows of the model, as JSON (shimmy/native/model.py: ModelFacts names the fields).
SHIMMY_API int32_t shimmy_model_facts(const shimmy_model * model, char ** out);

// Writes at most `capacity` ids; `*n_out` is the full count, so a larger value than `capacity` asks for a second call.
SHIMMY_API int32_t shimmy_model_tokenize(const shimmy_model * model, const char * text, size_t n_text, bool add_special,
                                         bool parse_special, int32_t * tokens, int32_t capacity, int32_t * n_out);

// The bytes of `tokens` as a generation would give them; special tokens are written only when `special`. `*n_out` as above, in bytes.
SHIMMY_API int32_t shimmy_model_detokenize(const shimmy_model * model, const int32_t * tokens, int32_t n_tokens,
                                           bool special, char * text, int32_t capacity, int32_t * n_out);

// The bytes of one token as it stands inside a text: its leading space is kept, a special token has none. `*n_out` as above.
SHIMMY_API int32_t shimmy_model_piece(const shimmy_model * model, int32_t token, char * text, int32_t capacity,
                                      int32_t * n_out);

// SHIMMY_E_INVALID with the parameter "draft_model", and how their vocabularies differ, unless tokens of `model` can be guessed by `draft`.
// One may have up to 128 tokens more.
SHIMMY_API int32_t shimmy_model_check_draft(const shimmy_model * model, const shimmy_model * draft);

// ---- sampler ------------------------------------------------------------------------------------------------------

// Numbers are finite. A stage with its neutral value, which is the default, is off.
typedef struct shimmy_sampler_params {
    float temperature;        // >= 0; 0: greedy; neutral 1
    float dynatemp_range;     // >= 0; the temperature goes up and down by it with the entropy; neutral 0
    float dynatemp_exponent;  // >= 0, of that entropy's share of the largest possible
    int32_t top_k;            // >= 0; neutral 0
    float top_p;              // 0..1; neutral 1
    float min_p;              // 0..1; neutral 0
    float typical_p;          // 0..1; neutral 1
    float top_n_sigma;        // standard deviations of the logits below the largest; neutral 0 and below
    float xtc_probability;    // 0..1; neutral 0
    float xtc_threshold;      // 0..1; above 0.5 XTC is off
    int32_t min_keep;         // >= 0; tokens that top_p, min_p, typical_p and xtc leave at least
    float repeat_penalty;     // > 0; neutral 1
    float presence_penalty;   // neutral 0
    float frequency_penalty;  // neutral 0
    int32_t repeat_last_n;    // >= 0; window of these penalties in tokens; 0: off
    float dry_multiplier;     // >= 0; neutral 0
    float dry_base;           // >= 1
    int32_t dry_allowed_length;  // >= 0; repetitions of fewer tokens cost nothing
    int32_t dry_penalty_last_n;  // >= 0; window in which they are looked for; 0: off
    const char * const * dry_breakers;  // [n_dry_breakers] at most 32 texts of 1..40 bytes of UTF-8, which end a repetition
    int32_t n_dry_breakers;
    int32_t mirostat;         // 0: off; 1, 2: version that takes the place of all stages but bias and temperature
    float mirostat_tau;       // >= 0; target surprise, bits
    float mirostat_eta;       // >= 0; learning rate
    uint32_t seed;
    int32_t n_logprobs;       // -1: none; 0: of the drawn token; up to SHIMMY_MAX_LOGPROBS: also the most likely ones
    bool ignore_eos;          // end-of-generation tokens are never drawn
    const int32_t * bias_tokens;  // [n_bias] ids below the vocabulary size
    const float * bias_values;    // [n_bias] added to the logits
    int32_t n_bias;
    const char * const * samplers;  // [n_samplers] the stages and their order, at most 32; what is not named is off. NULL: penalties,
                                    // dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature
    int32_t n_samplers;
} shimmy_sampler_params;

// Neutral values for all of it, seed 0.
SHIMMY_API void shimmy_sampler_default_params(shimmy_sampler_params * out);

// `history` are the last tokens of the prompt, which the penalties count (at least repeat_last_n and dry_penalty_last_n of them, or
// all). The model must outlive the call, not the sampler.
SHIMMY_API int32_t shimmy_sampler_new(const shimmy_model * model, const shimmy_sampler_params * params,
                                      const int32_t * history, int32_t n_history, shimmy_sampler ** out);
SHIMMY_API void shimmy_sampler_free(shimmy_sampler * sampler);

// From now on the sampler looks, before each token, for an earlier place in the text that ends like it: what stood there is a guess of
// what comes next. `text` is the prompt.
SHIMMY_API int32_t shimmy_sampler_look_up(shimmy_sampler * sampler, const int32_t * text, int32_t n_text);

// The guesses of at most `n` next tokens, and how likely each is right if those before it are, as this text's own guesses were up to
// now. `*n_out` are written: 0 where nothing is guessed.
SHIMMY_API int32_t shimmy_sampler_propose(const shimmy_sampler * sampler, int32_t n, int32_t * tokens, float * chances,
                                          int32_t * n_out);

typedef struct shimmy_sample {
    int32_t token;                            // -1 with SHIMMY_TOKEN_NO_LOGITS
    int32_t flags;
    float logprob;                            // of `token` under the raw softmax; 0 without logprobs
    int32_t n_top;                            // filled entries below
    int32_t top_tokens[20];                   // most likely first
    float top_logprobs[20];
} shimmy_sample;

// Draws a token from one row of n_vocab logits, which it may change, and counts the token as part of the text.
SHIMMY_API int32_t shimmy_sampler_sample(shimmy_sampler * sampler, float * logits, int32_t n_vocab, shimmy_sample * out);

// What the stages leave of one row, most likely first, with the logits whose softmax the draw would go by: `tokens` and `values` have
// room for n_vocab, `*n_out` are filled. Nothing is drawn (but by xtc, whether to act) or counted; the row may change.
SHIMMY_API int32_t shimmy_sampler_survivors(shimmy_sampler * sampler, float * logits, int32_t n_vocab, int32_t * tokens,
                                            float * values, int32_t * n_out);

// ---- grammar ------------------------------------------------------------------------------------------------------

#define SHIMMY_TRIGGER_WORD 0          // the text, anywhere
#define SHIMMY_TRIGGER_TOKEN 1
#define SHIMMY_TRIGGER_PATTERN 2       // an ECMAScript regular expression, anywhere in the last 4096 bytes
#define SHIMMY_TRIGGER_PATTERN_FULL 3  // the same for the whole text, while that has at most 4096 bytes

// What wakes a lazy grammar. It then takes in the text from the trigger's start: of a pattern, from the first of its groups that
// holds something.
typedef struct shimmy_trigger {
    int32_t kind;       // SHIMMY_TRIGGER_*
    int32_t token;      // of SHIMMY_TRIGGER_TOKEN
    const char * text;  // of the others
} shimmy_trigger;

typedef struct shimmy_grammar_params {
    const char * text;  // GBNF; n_text bytes, at most 1 MiB
    size_t n_text;
    const char * root;  // the rule that a whole answer matches
    bool lazy;          // everything is allowed until a trigger is seen
    const shimmy_trigger * triggers;  // [n_triggers] of a lazy grammar
    int32_t n_triggers;
    const int32_t * preserved;  // [n_preserved] control tokens that the answer shows: they match by their text. All others match only <name> or <[id]>
    int32_t n_preserved;
    // Of a lazy grammar: the parts of an answer in which no trigger counts. What ends one may hold a trigger.
    const char * reasoning_start;         // NULL or "": there are none
    const char * const * reasoning_ends;  // [n_reasoning_ends], at least one
    int32_t n_reasoning_ends;
    bool reasoning_begun;                 // the text begins inside of one
} shimmy_grammar_params;

// Compiles a grammar. Never changes afterwards; may be shared by samplers and threads, and freed before them. E_INVALID with param
// "grammar" names line and column; with "triggers", what is wrong with those.
SHIMMY_API int32_t shimmy_grammar_new(const shimmy_model * model, const shimmy_grammar_params * params, shimmy_grammar ** out);
SHIMMY_API void shimmy_grammar_free(shimmy_grammar * grammar);

// Memory that the grammar holds now, for a cache's bound; it learns up to 12 MB while it is matched.
SHIMMY_API size_t shimmy_grammar_bytes(const shimmy_grammar * grammar);

// From now on the sampler draws only what the grammar (of the same model) allows; its text begins with the next token. A sampler that
// finds no token gives -1 with SHIMMY_TOKEN_NO_CHOICE or SHIMMY_TOKEN_TOO_COSTLY.
SHIMMY_API int32_t shimmy_sampler_set_grammar(shimmy_sampler * sampler, const shimmy_grammar * grammar);

// The GBNF of the JSON texts that match a JSON schema (n_schema bytes, at most 128 KiB), as far as llama.cpp's converter knows its
// keywords; {"type": "object"} is any object. E_INVALID with param "json_schema" says where in the schema it cannot be done.
// `out` is freed with shimmy_string_free.
SHIMMY_API int32_t shimmy_schema_to_grammar(const char * schema, size_t n_schema, char ** out);

// ---- context ------------------------------------------------------------------------------------------------------

typedef struct shimmy_context_params {
    int32_t n_ctx;             // cells of the KV cache over all sequences; 0: the trained context
    int32_t n_batch;           // most tokens of one step
    int32_t n_ubatch;          // most tokens of one graph
    int32_t n_seq_max;         // sequence ids are 0 .. n_seq_max-1
    int32_t n_outputs_max;     // most rows sampled in one step; not below n_seq_max
    int32_t n_threads;         // for single tokens
    int32_t n_threads_batch;   // for batches
    int32_t spin;              // how long waiting threads poll before they sleep, 0..100 (own thread pool only)
    int32_t flash_attn;        // -1 auto, 0 off, 1 on
    const char * type_k;       // KV types by ggml's names: "f16", "bf16", "f32", "q8_0", ...
    const char * type_v;       // a quantized V needs flash attention
    int32_t rope_scaling_type; // -1 from the model, 0 none, 1 linear, 2 yarn, 3 longrope
    float rope_freq_base;      // 0: from the model
    float rope_freq_scale;     // 0: from the model
    float yarn_ext_factor;     // negative: from the model
    float yarn_attn_factor;    // negative: from the model, as the next two
    float yarn_beta_fast;
    float yarn_beta_slow;
    int32_t yarn_orig_ctx;     // 0: from the model
    bool offload_kqv;
    bool op_offload;
    bool swa_full;             // full-size cache for sliding-window layers
    bool kv_unified;           // one cache for all sequences
    int32_t device_sampling;   // -1 auto, 0 off, 1 on: while no run of a step needs more of its row than the 64 largest logits (greedy, or
                               // top_k up to 64 as the first stage; no grammar, bias or logprobs), only these leave the device. The draws
                               // are the same ones. auto: on where the output layer is on a GPU. An embedder has no use for it
} shimmy_context_params;

SHIMMY_API void shimmy_context_default_params(shimmy_context_params * out);

// The model must outlive the context. One that only makes embeddings is SHIMMY_E_INVALID with the parameter "model".
SHIMMY_API int32_t shimmy_context_new(const shimmy_model * model, const shimmy_context_params * params,
                                      shimmy_context ** out);
SHIMMY_API void shimmy_context_free(shimmy_context * context);

// What the context really has, as JSON (shimmy/types/models.py: ContextFacts names the fields), and the memory that it and the model take.
SHIMMY_API int32_t shimmy_context_facts(const shimmy_context * context, char ** out);

SHIMMY_API int32_t shimmy_context_set_threads(shimmy_context * context, int32_t n_threads, int32_t n_threads_batch);

// Stops the running step from another thread (CPU only) with SHIMMY_E_CANCELLED, and every later one until cleared.
SHIMMY_API void shimmy_context_interrupt(shimmy_context * context, bool on);

// One run is a stretch of consecutive tokens of one sequence. Its positions must follow what the sequence holds.
typedef struct shimmy_step_batch {
    int32_t n_runs;
    const int32_t * seq_ids;                // [n_runs]
    const int32_t * positions;              // [n_runs] of the first token
    const int32_t * lengths;                // [n_runs] at least 1
    const int32_t * tokens;                 // [sum of lengths]
    shimmy_sampler * const * samplers;      // [n_runs] draws after the run's last token; NULL: the run has no output
    const int32_t * n_guesses;              // [n_runs] how many of the run's last tokens are guesses; NULL: none of any run. Not of a
                                            // run without a sampler, and not of recurrent memories, which cannot take back tokens
} shimmy_step_batch;

// A run with guesses has a row for each of them and one more, any other run has one. They are drawn from in order, as long as what is
// drawn is the guess that comes next: so each drawn token is the one that would have been drawn without guesses. The tokens of
// guesses that were not drawn leave the memory before the step returns.

typedef struct shimmy_step_result {
    const int32_t * drawn;        // [3][n_rows]: the drawn tokens, -1 where there was no sampler, or a guess before was not drawn; their
                                  // SHIMMY_TOKEN_* flags; the ends of their bytes in `pieces`. One array: the caller reads it in one go
    const char * pieces;          // the tokens' text one after another, not terminated; not always whole UTF-8 characters
    const shimmy_sample * samples;  // [n_rows] in full, for the runs whose sampler has logprobs on
    const char * frame;           // of a streamed step (shimmy_context_stream): what goes to the front end; NULL: it was not streamed
    int32_t frame_size;           // bytes, the frame's length in front included; 0: nothing is to be sent
    int32_t n_rows;
    int32_t n_promising;          // runs whose next token is likely to be guessed (shimmy_context_watch)
} shimmy_step_result;

// Sums over all steps of a context; wall time. May be read from any thread.
typedef struct shimmy_clock {
    int64_t steps;
    int64_t decode_ns;            // in llama_decode and waiting for it
    int64_t sample_ns;            // sampling and detokenizing
} shimmy_clock;

// Decodes all runs in one batch, samples every run that has a sampler, and turns the tokens into bytes.
SHIMMY_API int32_t shimmy_context_step(shimmy_context * context, const shimmy_step_batch * batch,
                                       shimmy_step_result * out);

// One more token for every run of the last step, which must have drawn one for each: the same sequences and samplers, the drawn
// tokens, the positions after them. Nothing else may have used the context, and no sampler may have been freed, since.
SHIMMY_API int32_t shimmy_context_repeat(shimmy_context * context, shimmy_step_result * out);

// How likely a sampler's first guess must be for its run to count as promising, from the next step on. Above 1, as at the start: none.
SHIMMY_API int32_t shimmy_context_watch(shimmy_context * context, float chance);

// One run of a stream: the request's id, the tokens it has drawn, and how many more it may draw, the last of them included.
typedef struct shimmy_stream_run {
    int64_t id;
    int32_t n_generated;
    int32_t n_left;
} shimmy_stream_run;

// From now on repeat() makes the frame with the runs' text itself (shimmy/worker/protocol.py: Events of Delta), up to the first step
// with a token that ends its sequence, has no logits, is the last that may be drawn, or is not whole characters of UTF-8: that step
// is not streamed, and is read like any other. `runs` are those of the last step, in its order; every step but repeat() ends it.
SHIMMY_API int32_t shimmy_context_stream(shimmy_context * context, const shimmy_stream_run * runs, int32_t n_runs);

// The tokens of all steps that were streamed since: [n_steps][n_runs]. Borrowed; valid until the next step.
SHIMMY_API int32_t shimmy_context_streamed(const shimmy_context * context, const int32_t ** tokens, int32_t * n_tokens);

SHIMMY_API void shimmy_context_clock(const shimmy_context * context, shimmy_clock * out);

// The logits of row `row` of the last step (n_vocab floats, after sampling: bias and penalties are in it).
// Borrowed; valid until the next step. NULL where its run had no output, or the device kept the row (device_sampling).
SHIMMY_API const float * shimmy_context_logits(shimmy_context * context, int32_t row);

// Positions p0..p1-1 of a sequence; p1 -1 means to its end. Removing a part fails with SHIMMY_E_INVALID where the memory
// cannot (recurrent models), or where what is left could not be gone on with, because of a window (`seq_copy`).
SHIMMY_API int32_t shimmy_context_seq_remove(shimmy_context * context, int32_t seq_id, int32_t p0, int32_t p1);

// Makes sequence `to` share the cells p0..p1-1 of `from`; `to` is empty, or holds p0 tokens. No K or V is copied in a unified cache. Fails
// with SHIMMY_E_INVALID where layers that see a window have let go of tokens that position p1 sees (`seq_range` says the first that is
// there). Only for saving its state is a copy good whose beginning (p0) is missing.
SHIMMY_API int32_t shimmy_context_seq_copy(shimmy_context * context, int32_t from, int32_t to, int32_t p0, int32_t p1);

// Lets go of what a sequence's next tokens do not see in layers with a window, and says how many cells have come free. Without it such
// cells are used again only where one sequence alone holds them.
SHIMMY_API int32_t shimmy_context_seq_leave(shimmy_context * context, int32_t seq_id, int32_t * n_freed);

// First and last position a sequence holds; -1 and -1 when empty.
SHIMMY_API int32_t shimmy_context_seq_range(shimmy_context * context, int32_t seq_id, int32_t * first, int32_t * last);

SHIMMY_API int32_t shimmy_context_clear(shimmy_context * context);

// State of one sequence. flags: 0 all, 1 only the part that is no full attention. `state_get` writes `*size` bytes into `data`,
// whose capacity is `*size` (ask `state_size` first). `state_set` refuses, with the parameter "state" and nothing changed, what no
// context with the same model and settings has saved, and what is cut short or damaged; where there is no room for it, the sequence
// is empty afterwards. A state is for this machine and build. Its checksum finds damage, not malice: take no stranger's states.
SHIMMY_API int32_t shimmy_context_state_size(shimmy_context * context, int32_t seq_id, int32_t flags, size_t * size);
SHIMMY_API int32_t shimmy_context_state_get(shimmy_context * context, int32_t seq_id, int32_t flags, uint8_t * data,
                                            size_t * size);
SHIMMY_API int32_t shimmy_context_state_set(shimmy_context * context, int32_t seq_id, int32_t flags,
                                            const uint8_t * data, size_t size);

// Makes the empty sequence `to` what `from` was after its first n tokens, where a partial state (flags 1) was saved at that point: the
// cells of full attention are shared, the state stands for the rest. Fails as `state_set` does; `to` is empty then.
SHIMMY_API int32_t shimmy_context_seq_fork(shimmy_context * context, int32_t from, int32_t to, int32_t n, const uint8_t * data,
                                           size_t size);

// ---- adapter ------------------------------------------------------------------------------------------------------

// Loads a LoRA adapter (GGUF) for the model's weights. It belongs to the model and is valid as long as that; to be loaded before
// the model's contexts are made. A file that does not fit the model is SHIMMY_E_INVALID with the parameter "lora".
SHIMMY_API int32_t shimmy_adapter_load(shimmy_model * model, const char * path, shimmy_adapter ** out);

// Name, alpha, rank, tensors and size as JSON (shimmy/native/adapter.py: AdapterFacts names the fields).
SHIMMY_API int32_t shimmy_adapter_facts(const shimmy_adapter * adapter, char ** out);

// Makes these the context's adapters from the next step on, each with its scale (any finite number; 0 is off); n 0 is none. Cells
// that were computed with others stay as they are: which of them may be continued is the caller's matter. A change makes
// llama.cpp build its graph anew.
SHIMMY_API int32_t shimmy_context_set_adapters(shimmy_context * context, shimmy_adapter * const * adapters,
                                               const float * scales, int32_t n);

// ---- embedding ----------------------------------------------------------------------------------------------------

#define SHIMMY_POOLING_MEAN 1  // as llama_pooling_type
#define SHIMMY_POOLING_CLS 2   // the first token's
#define SHIMMY_POOLING_LAST 3
#define SHIMMY_POOLING_RANK 4  // the scores of the model's classifier

typedef struct shimmy_embedder shimmy_embedder;

// Of `params`: n_batch is the most tokens of one step and n_ubatch must be the same, n_outputs_max not below it; n_ctx the cells of
// all sequences at once. `rank`: scores of the model's classifier in place of hidden states. The model must outlive it; it belongs
// to one thread at a time.
SHIMMY_API int32_t shimmy_embedder_new(const shimmy_model * model, const shimmy_context_params * params, bool rank,
                                       shimmy_embedder ** out);
SHIMMY_API void shimmy_embedder_free(shimmy_embedder * embedder);

// As JSON: n_ctx, n_batch, n_seq_max, n_threads, n_threads_batch; width: numbers of a vector; whole: a text's tokens must go into one
// step (encoders, attention in both directions).
SHIMMY_API int32_t shimmy_embedder_facts(const shimmy_embedder * embedder, char ** out);

// As shimmy_context_interrupt.
SHIMMY_API void shimmy_embedder_interrupt(shimmy_embedder * embedder, bool on);

// One run holds the next tokens of one sequence; each sequence has one run at most.
typedef struct shimmy_embed_batch {
    int32_t n_runs;
    const int32_t * seq_ids;                // [n_runs] below n_seq_max
    const int32_t * lengths;                // [n_runs] at least 1
    const int32_t * tokens;                 // [sum of lengths]
} shimmy_embed_batch;

// Computes all runs in one batch and adds them to what is pooled of their sequences. A failure while computing empties all sequences.
SHIMMY_API int32_t shimmy_embedder_step(shimmy_embedder * embedder, const shimmy_embed_batch * batch);

// The vector of all tokens that a sequence has: its first `n_out` numbers (1..width), then divided by their length with `normalize`.
// `pooling`: one of SHIMMY_POOLING_*.
SHIMMY_API int32_t shimmy_embedder_read(const shimmy_embedder * embedder, int32_t seq_id, int32_t pooling, int32_t n_out,
                                        bool normalize, float * out);

// The hidden states of run `run` of the last step: [its length][width]. Borrowed; valid until the next step. NULL with `rank`.
SHIMMY_API const float * shimmy_embedder_rows(shimmy_embedder * embedder, int32_t run);

// Empties a sequence, whose id and cells are then free.
SHIMMY_API int32_t shimmy_embedder_release(shimmy_embedder * embedder, int32_t seq_id);
SHIMMY_API int32_t shimmy_embedder_clear(shimmy_embedder * embedder);

// ---- chat ---------------------------------------------------------------------------------------------------------

// Compiles the chat template of the model, or `override` where it is not NULL, renders probe conversations with it and analyses
// it. `max_render_s`: how long one call may render; a template that takes longer, nests too deep, calls itself without end, or makes
// texts without end is SHIMMY_E_TEMPLATE. llama.cpp looks at what a template can do without a bound, but only after the same look
// within these bounds has ended; lists that hold themselves or the same long text many times are not seen by them: the caller
// runs this under a deadline, and in a process that may end.
SHIMMY_API int32_t shimmy_chat_new(const shimmy_model * model, const char * override_template, double max_render_s,
                                   shimmy_chat ** out);
SHIMMY_API void shimmy_chat_free(shimmy_chat * chat);

// `request`: {"messages": [OpenAI's], "tools": text, "tool_choice", "function", "parallel_tool_calls", "extract_reasoning",
// "enable_thinking", "add_generation_prompt", "continue_answer", "json_schema": text, "chat_template_kwargs": text}, where text
// is JSON in a string; only messages are needed. Errors name messages, tools, tool_choice, json_schema or chat_template_kwargs.
// `out`: {"prompt", "opening": the end of the prompt that belongs to the answer, "stops", "grammar", "grammar_lazy", "triggers":
// [{"kind", "value"}], "preserved_tokens", "thinking_start", "thinking_ends"}, freed with shimmy_string_free. The prompt is to be
// tokenized with add_special and parse_special. `parser`: for the answer, freed with shimmy_chat_parser_free; NULL where an
// answer is its text. A chat may be used by threads at once.
SHIMMY_API int32_t shimmy_chat_apply(const shimmy_chat * chat, const char * request, shimmy_chat_parser ** parser, char ** out);

SHIMMY_API void shimmy_chat_parser_free(shimmy_chat_parser * parser);

// Takes more of the answer (whole UTF-8 characters). `*delta`: what is new, {"content", "reasoning", "tool_calls": [{"index",
// "id", "name", "arguments"}]}, id and name once a call; empty where there is nothing. Valid until the next call.
SHIMMY_API int32_t shimmy_chat_parser_feed(shimmy_chat_parser * parser, const char * text, size_t n_text, const char ** delta,
                                           size_t * n_delta);

// The answer has ended: {"delta": the last one, "message": all deltas together, "parsed": false where the text departed from the
// format and what follows was given as content, "work": bytes that were parsed, again and again}. `out` is freed with shimmy_string_free.
SHIMMY_API int32_t shimmy_chat_parser_finish(shimmy_chat_parser * parser, char ** out);

// For a sampler whose text is a chat answer: `opening` are the tokens of that text that the prompt holds already, which the grammar
// takes first; `shown` control tokens whose text is to be seen.
SHIMMY_API int32_t shimmy_sampler_open_answer(shimmy_sampler * sampler, const int32_t * opening, int32_t n_opening,
                                              const int32_t * shown, int32_t n_shown);

// Of the same sampler: each part of the answer from `start` to one of `ends` (at least one) takes `budget` tokens (0 or more), then
// `closing` follows, the tokens of an end. `begun`: the prompt's end has begun one; else `start` is not empty.
SHIMMY_API int32_t shimmy_sampler_limit_reasoning(shimmy_sampler * sampler, const shimmy_model * model, const char * start,
                                                  const char * const * ends, int32_t n_ends, bool begun, int64_t budget,
                                                  const int32_t * closing, int32_t n_closing);
/* cdef end */

#ifdef __cplusplus
}
#endif

#endif
