// The tokens of one step as llama_decode takes them: each of one sequence. Kept from step to step, so that filling allocates nothing.
#pragma once

#include "llama.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shimmy {

class Batch {
  public:
    void clear() {
        tokens_.clear();
        positions_.clear();
        seq_ids_.clear();
        outputs_.clear();
    }

    // Returns the token's index in the batch, which is that of its output, too.
    int32_t add(int32_t token, int32_t position, int32_t seq_id, bool output) {
        tokens_.push_back(token);
        positions_.push_back(position);
        seq_ids_.push_back(seq_id);
        outputs_.push_back(output ? 1 : 0);
        return static_cast<int32_t>(tokens_.size()) - 1;
    }

    // Borrowed; valid until the next change.
    llama_batch view() {
        const size_t n = tokens_.size();
        n_seq_ids_.assign(n, 1);
        seq_id_of_.resize(n);
        for (size_t i = 0; i < n; ++i) {
            seq_id_of_[i] = &seq_ids_[i];
        }
        llama_batch batch{};
        batch.n_tokens = static_cast<int32_t>(n);
        batch.token = tokens_.data();
        batch.pos = positions_.data();
        batch.n_seq_id = n_seq_ids_.data();
        batch.seq_id = seq_id_of_.data();
        batch.logits = outputs_.data();
        return batch;
    }

  private:
    std::vector<int32_t> tokens_, positions_, seq_ids_, n_seq_ids_;
    std::vector<int32_t *> seq_id_of_;
    std::vector<int8_t> outputs_;
};

}  // namespace shimmy
