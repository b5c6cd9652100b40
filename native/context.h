// A context: KV cache, compute graph and threads of one model, driven by one thread.
#pragma once

#include "batch.h"
#include "device_top_k.h"
#include "llama.h"
#include "model.h"
#include "sampler.h"
#include "shimmy.h"
#include "stream.h"
#include "threads.h"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace shimmy {

// How many of a run's last tokens are guesses.
inline int32_t guesses_of(const shimmy_step_batch & in, int32_t run) { return in.n_guesses == nullptr ? 0 : in.n_guesses[run]; }

// Throws E_INVALID for values out of range.
llama_context_params to_llama(const shimmy_context_params & p);

// Throws E_INVALID where a quantized cache type's blocks do not divide a head. llama.cpp looks for that only with flash attention;
// without it, it takes the wrong bytes for a head.
void check_cache_types(const llama_model * model, const llama_context_params & p);

}  // namespace shimmy

struct shimmy_context {
  public:
    // Throws shimmy::Error: E_INVALID for values out of range, E_MEMORY where the memory could not be had.
    shimmy_context(const shimmy_model & model, const shimmy_context_params & params);

    void step(const shimmy_step_batch & in, shimmy_step_result & out);
    void repeat(shimmy_step_result & out);
    void stream(const shimmy_stream_run * runs, int32_t n_runs);
    const std::vector<int32_t> & streamed() const { return stream_.tokens(); }
    void seq_copy(int32_t from, int32_t to, int32_t p0, int32_t p1);
    void seq_remove(int32_t seq_id, int32_t p0, int32_t p1);
    int32_t seq_leave(int32_t seq_id);
    void set_threads(int32_t n_threads, int32_t n_threads_batch);
    void set_adapters(shimmy_adapter * const * adapters, const float * scales, int32_t n);

    // Throws E_INVALID unless 0 <= seq_id < n_seq_max.
    void check_seq(int32_t seq_id) const;

    void watch(float chance) { promising_ = chance; }
    const float * logits(int32_t row) const;
    const char * memory_kind() const;
    int32_t window() const;

    // Whether a beginning can be shared where a partial state stands for what cannot.
    bool forks_with_state() const;

    // The last position of what a partial state holds.
    int32_t last_of_state(int32_t seq_id) const;

    // Whether rows may be narrowed where they are computed.
    bool samples_on_device() const { return device_.available(); }

    // What a saved state must agree on: the model, and the settings that its cells depend on.
    uint64_t fingerprint();

    llama_context * get() const { return context_.get(); }
    llama_memory_t memory() const { return llama_get_memory(context_.get()); }
    bool unified() const { return unified_; }

    std::atomic<bool> interrupted{false};
    std::atomic<int64_t> steps{0}, decode_ns{0}, sample_ns{0};

  private:
    struct FreeContext {
        void operator()(llama_context * c) const { llama_free(c); }
    };

    void check_window(int32_t seq_id, int32_t n) const;
    void close_gap(int32_t from, int32_t to, int32_t end);
    void fill(const shimmy_step_batch & in);
    void check_runs(const shimmy_step_batch & in);
    void narrow_on_device(const shimmy_step_batch & in);
    void decode();
    void draw(int32_t output, shimmy_sampler & sampler, shimmy_sample & out);
    void sample(const shimmy_step_batch & in);
    void sample_row(size_t row, shimmy_sampler & sampler);
    size_t sample_run(size_t row, shimmy_sampler & sampler, const int32_t * guesses, size_t n_guesses);
    void take_back(const shimmy_step_batch & in);
    int32_t count_promising(const shimmy_step_batch & in) const;
    bool can_take_back() const;
    bool fits_in_one_piece(int32_t n) const;
    void append_piece(int32_t token, bool special);
    void remember(const shimmy_step_batch & in);
    void compute(const shimmy_step_batch & in, shimmy_step_result & out);

    const shimmy_model & model_;
    uint64_t settings_hash_ = 0;
    uint64_t fingerprint_ = 0;  // once it was asked for
    bool unified_;
    int32_t spin_;
    int32_t n_outputs_max_;
    shimmy::Threads threads_;  // outlives the context that uses it
    shimmy::DeviceTopK device_;  // the same
    std::unique_ptr<llama_context, FreeContext> context_;

    // One step's batch and results; kept so that a step allocates nothing.
    shimmy::Batch batch_;
    std::vector<int32_t> output_index_, next_position_;
    std::vector<int32_t> last_row_, ends_;  // of each run: the row that it drew from last, and the position after all that it keeps
    std::vector<shimmy_sample> samples_;
    std::vector<shimmy::Candidate> largest_;
    std::vector<int32_t> drawn_;  // [3][n_rows], see shimmy_step_result
    std::string pieces_;

    // What repeat() goes on with; empty where the last step did not draw for all of its runs.
    struct Steady {
        std::vector<int32_t> seq_ids, positions, lengths, tokens;
        std::vector<shimmy_sampler *> samplers;
    };
    Steady steady_, repeated_;
    shimmy::Stream stream_;
    float promising_ = 2.0f;  // the chance of a guess from which on its run is
};
