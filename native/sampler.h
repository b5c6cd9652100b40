// The sampler of one sequence: settings, random numbers, the tokens that penalties count, and what may follow.
#pragma once

#include "constraint.h"
#include "penalties.h"
#include "row.h"
#include "shimmy.h"

#include <memory>
#include <random>
#include <utility>
#include <vector>

// Equal in distribution to llama.cpp's chain of the same stages (bias, penalties, top_k, top_p, min_p, temperature, draw), with
// no candidate array: a stage is a function below that reads the row or narrows `kept_`, in the chain's order.
struct shimmy_sampler {
  public:
    // Throws shimmy::Error on values out of range. The ids in `bias` must be below n_vocab; those of `history` that are not are left out.
    shimmy_sampler(const shimmy_sampler_params & params, int32_t n_vocab, std::vector<std::pair<int32_t, float>> bias,
                   const int32_t * history, int32_t n_history);

    // From now on only what the constraint allows is drawn. Its tokens are the ones drawn after this, not the history.
    void constrain(std::unique_ptr<shimmy::Constraint> constraint) { constraint_ = std::move(constraint); }

    // Draws from the row (which bias and penalties change) and counts the token.
    void sample(float * logits, shimmy_sample & out);

    bool wants_logprobs() const { return params_.n_logprobs >= 0; }
    int32_t n_vocab() const { return n_vocab_; }

  private:
    // sampler.cpp: the life of one row
    void report_top(shimmy_sample & out);
    bool adjust(float * logits);
    float raw_logit(const float * logits, int32_t token) const;
    int32_t draw_allowed(float * logits);

    // sampler_stages.cpp
    int32_t draw();
    int32_t draw_from_row();
    void keep_top_k();
    void keep_top_p_of_row();
    void cut_by_weight(double wanted);
    void keep_top_p();
    void keep_min_p();
    int32_t draw_kept();
    double uniform();

    shimmy_sampler_params params_;
    int32_t n_vocab_;
    std::vector<std::pair<int32_t, float>> bias_;
    shimmy::Penalties penalties_;
    std::unique_ptr<shimmy::Constraint> constraint_;
    bool refused_ = false;  // the constraint refused the first draw of this row
    std::mt19937 random_;
    shimmy::Row row_;
    std::vector<std::pair<int32_t, float>> raw_;  // logits as the model gave them, of the tokens that adjust() changed
    std::vector<shimmy::Candidate> kept_;         // survivors, most likely first
    std::vector<double> weights_;                 // scratch of draw_kept()
    double log_sum_ = 0.0;                        // ln of the raw softmax's normaliser, for logprobs
};
