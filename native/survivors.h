// What the stages of a sampler have left of one row: all of it, or a list of candidates.
#pragma once

#include "random.h"
#include "row.h"

#include <cstdint>
#include <vector>

namespace shimmy {

class Survivors {
  public:
    // All of a row, which must have a finite maximum (Row::finite) when a stage looks at it.
    void start(Row & row);

    // The largest logits of a row of `n`, in any order and without -inf, for stages that look at no more of it.
    void start(const std::vector<Candidate> & largest, int32_t n);

    // Whether no stage has narrowed the row to a list yet.
    bool whole() const { return whole_; }
    Row & row() { return *row_; }

    // The list, unless whole(): without -inf, in no order until sort().
    std::vector<Candidate> & list() { return list_; }

    // Whether the list is in the order of sort().
    bool sorted() const { return sorted_; }

    // After a stage has moved candidates about in the list.
    void disorder() { sorted_ = false; }

    // How many candidates llama.cpp's array would have here: those of logit -inf count, as they do for its stages.
    int64_t nominal() const { return nominal_; }

    // Whether nothing can be drawn: all candidates are gone or banned, or a logit is +inf.
    bool empty() { return whole_ ? !row_->finite() : list_.empty(); }

    float max();

    // Sum of exp(logit - max), and the same weighted with logit - max.
    Moments moments();

    // Makes `list()`, as a stage has just filled it out of the row, what is left; `nominal` as above.
    void narrow(int64_t nominal, bool sorted);

    // Leaves the first `n` of the list.
    void cut(size_t n, int64_t nominal);

    // Largest first, equal logits by token id.
    void sort();

    // After a stage has taken `n` candidates away by itself.
    void exclude(int64_t n) { nominal_ -= n; }

    // After a stage has changed logits in the list; those that are -inf now leave it.
    void changed();

    // Leaves only the most likely token.
    void keep_best();

    // Divides the logits by `temperature`, or where nothing follows but the draw, leaves that to it.
    void divide(float temperature, bool last);

    // A token drawn by exp(logit / temperature); -1 where nothing is left.
    int32_t draw(Random & random);

    // All candidates by now, most likely first, with the logits that draw() goes by.
    const std::vector<Candidate> & settle();

  private:
    int32_t draw_listed(double target_share);

    Row * row_ = nullptr;
    bool whole_ = true;
    bool sorted_ = false;
    int64_t nominal_ = 0;
    float temperature_ = 1.0f;
    std::vector<Candidate> list_;
    std::vector<float> weights_;  // scratch of draw()
};

}  // namespace shimmy
