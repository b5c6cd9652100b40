// The sampler of one sequence: settings, random numbers, what penalties count, and what may follow.
#pragma once

#include "constraint.h"
#include "dry.h"
#include "lookup.h"
#include "mirostat.h"
#include "penalties.h"
#include "random.h"
#include "reasoning_budget.h"
#include "row.h"
#include "sampler_settings.h"
#include "shimmy.h"
#include "survivors.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

// Equal in distribution to llama.cpp's chain of the same stages in the same order (common_sampler_init), with no candidate array of
// all the vocabulary: the stages look into the row, and narrow it to a list as soon as one can.
struct shimmy_sampler {
  public:
    // Throws shimmy::Error on values out of range. The ids in `bias` must be below n_vocab; those of `history` that are not are left out.
    shimmy_sampler(const shimmy_sampler_params & params, int32_t n_vocab, std::vector<std::pair<int32_t, float>> bias,
                   std::shared_ptr<const shimmy::DryBreakers> breakers, const int32_t * history, int32_t n_history);

    // From now on only what the constraint allows is drawn. Its tokens are the ones drawn after this, not the history.
    void constrain(std::unique_ptr<shimmy::Constraint> constraint) { constraint_ = std::move(constraint); }

    // From now on what the model thinks comes to an end once it is spent, whatever the row says.
    void limit_reasoning(std::unique_ptr<shimmy::ReasoningBudget> budget) { budget_ = std::move(budget); }

    // Control tokens whose text the answer shows; no token else does.
    void show(std::vector<int32_t> tokens) { shown_ = std::move(tokens); }
    bool shows(int32_t token) const { return std::find(shown_.begin(), shown_.end(), token) != shown_.end(); }

    // Guesses of the next tokens, which then follows the text; nullptr: none.
    void look_up(std::unique_ptr<shimmy::Lookup> lookup) { lookup_ = std::move(lookup); }
    const shimmy::Lookup * lookup() const { return lookup_.get(); }

    // The constraint, if there is one, takes `token` as the next of the text, without a draw.
    void begin_with(int32_t token);

    // Draws from the row (which bias and penalties change) and counts the token.
    void sample(float * logits, shimmy_sample & out);

    // Whether the `k` largest logits of a row are all that it needs.
    bool needs_only(int32_t k) const;

    // The same draw as sample() from a row, given at least as many of its largest logits as are needed; in any order, without -inf.
    void sample_largest(const std::vector<shimmy::Candidate> & largest, shimmy_sample & out);

    // What the stages leave of the row, most likely first, with the logits that the draw goes by. Counts nothing.
    const std::vector<shimmy::Candidate> & survivors(float * logits);

    bool wants_logprobs() const { return params_.n_logprobs >= 0; }
    int32_t n_vocab() const { return n_vocab_; }

  private:
    void report_top(shimmy_sample & out);
    int32_t forced();
    int32_t draw_allowed(float * logits);
    int32_t n_looked_at() const;
    bool refuse_likeliest();
    int32_t draw();
    bool narrow();
    bool apply_all();
    void apply(shimmy::Stage stage, bool last);
    void accept(int32_t token);

    shimmy_sampler_params params_;
    int32_t n_vocab_;
    std::vector<shimmy::Stage> plan_;
    std::vector<std::pair<int32_t, float>> bias_;
    shimmy::Penalties penalties_;
    std::unique_ptr<shimmy::Dry> dry_;  // nullptr: off
    shimmy::Mirostat mirostat_;
    std::unique_ptr<shimmy::Constraint> constraint_;
    std::unique_ptr<shimmy::ReasoningBudget> budget_;
    std::unique_ptr<shimmy::Lookup> lookup_;
    std::vector<int32_t> shown_;
    bool refused_ = false;  // the constraint refused the first draw of this row
    shimmy::Random random_;
    shimmy::Row row_;
    shimmy::Survivors left_;
    std::vector<shimmy::Candidate> top_;  // scratch of report_top()
    std::vector<shimmy::Candidate> likeliest_;  // scratch of refuse_likeliest()
    double log_sum_ = 0.0;                // ln of the raw softmax's normaliser, for logprobs
};
