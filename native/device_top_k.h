// The sampler's second back end: rows that are narrowed to their largest logits where the model computes them.
//
// llama.cpp can make samplers part of a step's graph. Here that is its top_k alone: of a row of n_vocab logits only the largest leave
// the device, and every stage after them, the draw included, is shimmy_sampler's own. So the same seed draws the same tokens with and
// without it, requests with different settings share one graph, and no state of a sequence lies on the device.
//
// llama.cpp gives back either the rows of a batch or what its samplers left of them: one run that needs its whole row needs all of them
// whole. And it reserves its graph anew, which takes as long as several steps, when a sampler comes or goes. So all sequences of a
// context have a chain or none has, and chains that had to go for a run stay away until many steps in a row could have used them.
#pragma once

#include "llama.h"
#include "row.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace shimmy {

// One context's chains. It owns them, and must outlive the context: llama.cpp keeps pointers to those that are attached.
class DeviceTopK {
  public:
    static constexpr int32_t most = 64;  // logits of a row; samplers' usual top_k is 20 to 64

    // Lets the context that is made of `params` next begin with chains; `params` then points into this.
    void begin(llama_context_params & params, int32_t n_vocab);

    // After it was made. Takes the chains away for good where its device, or its way of splitting the model, cannot use them.
    void confirm(llama_context * context);

    // Before a step with outputs; `suits`: the `k` largest logits are all that each of them needs.
    void prepare(llama_context * context, bool suits);

    // Whether the next step, or the last one, is narrowed: its rows can be had by read() alone.
    bool attached() const { return !chains_.empty(); }

    bool available() const { return available_; }
    int32_t k() const { return k_; }

    // The largest logits of one output of the last step, in no order; none where one of them is +inf. Throws E_COMPUTE where
    // llama.cpp has not given them.
    void read(llama_context * context, int32_t output, std::vector<Candidate> & out) const;

  private:
    struct Free {
        void operator()(llama_sampler * sampler) const { llama_sampler_free(sampler); }
    };
    using Chain = std::unique_ptr<llama_sampler, Free>;

    Chain make() const;
    void attach(llama_context * context);
    void detach(llama_context * context);

    bool available_ = false;
    int32_t k_ = 0;
    std::vector<Chain> chains_;  // by sequence id
    std::vector<llama_sampler_seq_config> configs_;
    int32_t n_steps_ = 0;  // attached: since then; else: in a row that could have used it
    int32_t wait_ = 0;     // how many of these it takes to attach again
};

}  // namespace shimmy
