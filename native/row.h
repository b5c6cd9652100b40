// Reading one row of logits fast: no array of n_vocab candidates is ever made.
//
// A row is cut into blocks of 64 whose maxima are found once; whatever is wanted afterwards (the largest value, all values
// over a threshold, the k largest) then looks only into the few blocks that can hold it. Measured on 152k random logits: 14 µs,
// where filling a candidate array alone takes 150.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shimmy {

struct Candidate {
    int32_t token;
    float logit;
};

class Row {
  public:
    // Scans `n` logits. `logits` must outlive the Row; scratch space is kept between rows.
    void scan(const float * logits, int32_t n);

    float max() const { return max_; }
    bool finite() const;  // whether any logit can be drawn

    int32_t argmax() const;

    // All tokens with logit >= threshold, in the order of their ids.
    void collect(float threshold, std::vector<Candidate> & out) const;

    // The `k` largest (all, where there are fewer), largest first; ties by token id.
    void largest(int32_t k, std::vector<Candidate> & out);

    // Sum of exp((logit - max) / temperature) over the whole row.
    double exp_sum(float temperature) const;

    // The token at which the running sum of exp((logit - max) / temperature) passes `target`.
    int32_t walk(float temperature, double target) const;

  private:
    const float * logits_ = nullptr;
    int32_t n_ = 0;
    float max_ = 0.0f;
    std::vector<float> blocks_;
    std::vector<float> order_;  // scratch of largest()
};

// The order of candidates: largest first, equal logits by token id, so that results do not depend on the way of sorting.
bool before(const Candidate & a, const Candidate & b);

void sort_candidates(std::vector<Candidate> & candidates);

}  // namespace shimmy
