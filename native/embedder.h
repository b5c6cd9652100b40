// An embedding context: hidden states of texts, pooled into one vector each, or a classifier's scores.
#pragma once

#include "batch.h"
#include "llama.h"
#include "model.h"
#include "shimmy.h"
#include "threads.h"

#include <atomic>
#include <memory>
#include <vector>

struct shimmy_embedder {
  public:
    // Throws shimmy::Error: E_INVALID for values out of range, E_MEMORY where the memory could not be had.
    shimmy_embedder(const shimmy_model & model, const shimmy_context_params & params, bool rank);

    void step(const shimmy_embed_batch & in);
    void read(int32_t seq_id, int32_t pooling, int32_t n_out, bool normalize, float * out) const;
    void release(int32_t seq_id);
    void clear();

    // The hidden states of a run of the last step; nullptr where there are none.
    const float * rows(int32_t run);

    llama_context * get() const { return context_.get(); }
    int32_t width() const { return width_; }
    bool whole() const { return whole_; }

    std::atomic<bool> interrupted{false};

  private:
    struct FreeContext {
        void operator()(llama_context * c) const { llama_free(c); }
    };
    // What is kept of a sequence's hidden states; of a classifier's scores, `last`.
    struct Pooled {
        int32_t n_tokens = 0;
        std::vector<double> sum;
        std::vector<float> first, last;
    };

    const Pooled & check_seq(int32_t seq_id) const;
    void check(const shimmy_embed_batch & in) const;
    void check_run(const shimmy_embed_batch & in, int32_t run) const;
    void fill(const shimmy_embed_batch & in);
    void decode();
    void pool(const shimmy_embed_batch & in);

    const shimmy_model & model_;
    const bool rank_;
    bool whole_ = false;
    int32_t width_ = 0;
    int32_t longest_ = 0;
    shimmy::Threads threads_;  // outlives the context that uses it
    std::unique_ptr<llama_context, FreeContext> context_;

    std::vector<Pooled> sequences_;  // by sequence id
    shimmy::Batch batch_;
    std::vector<int32_t> starts_;
};
