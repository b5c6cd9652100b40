// A grammar as requests share it, and the place of one text in it.
#pragma once

#include "automaton.h"
#include "constraint.h"
#include "shimmy.h"
#include "trigger.h"
#include "utf8.h"

#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace shimmy {

// Compiled once, shared by requests and threads. What is learnt while matching (states, masks) is shared as well.
class Grammar {
  public:
    // Throws shimmy::Error (E_INVALID, param "grammar") where no text can match, or too many ways lead into one.
    Grammar(std::shared_ptr<const Compiled> compiled, bool lazy, Triggers triggers);

    bool lazy() const { return lazy_; }
    const Triggers & triggers() const { return triggers_; }
    const Compiled & compiled() const { return *compiled_; }

    // The automaton to go on with; a new one where the last one has grown over its bounds (others may go on in that one).
    std::shared_ptr<Automaton> automaton();

    size_t bytes() const;

  private:
    std::shared_ptr<const Compiled> compiled_;
    bool lazy_;
    Triggers triggers_;
    mutable std::mutex mutex_;
    std::shared_ptr<Automaton> automaton_;
};

// One sequence's place in a grammar. Allows the same tokens as llama.cpp's grammar sampler, but for four cases where that one
// goes wrong: a symbol for one token matches only whole tokens; an end is not allowed inside of a character; a class with exceptions
// beyond ASCII allows the first bytes of characters that it allows; a control token matches characters only if it is preserved.
class GrammarConstraint final : public Constraint {
  public:
    explicit GrammarConstraint(std::shared_ptr<Grammar> grammar);

    bool allows(int32_t token) override;
    void mask(float * logits, int32_t n_vocab) override;
    bool sift(std::vector<Candidate> & tokens) override;
    void accept(int32_t token) override;
    int32_t failure() const override;

  private:
    struct Place {
        int32_t state;
        Utf8 character;  // begun by the last token
        bool dead() const { return state == Automaton::kDead; }
    };

    Place after(const Place & from, int32_t token);
    Place after_text(const Place & from, int32_t token, const std::string & text);
    template <typename Step>
    void advance(Step && step);
    static void apply(const std::vector<uint64_t> & bits, float * logits, int32_t n_vocab);
    void move_if_full();

    std::shared_ptr<Grammar> grammar_;
    std::shared_ptr<Automaton> automaton_;
    Place place_;
    std::unique_ptr<TriggerWatch> asleep_;  // until it has seen a trigger
    int32_t asked_ = -1;                    // the token that allows() said yes to, and where it leads
    Place answer_{};
    bool too_costly_ = false;
};

}  // namespace shimmy

// The handle of the C ABI: samplers go on with the grammar once it is freed.
struct shimmy_grammar {
    std::shared_ptr<shimmy::Grammar> shared;
};
