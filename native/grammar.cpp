#include "grammar.h"

#include "error.h"

#include <algorithm>
#include <limits>

namespace shimmy {

Grammar::Grammar(std::shared_ptr<const Compiled> compiled, bool lazy, Triggers triggers)
    : compiled_(std::move(compiled)),
      lazy_(lazy),
      triggers_(std::move(triggers)),
      automaton_(std::make_shared<Automaton>(compiled_)) {
    int32_t start = Automaton::kDead;
    try {
        start = automaton_->start();
    } catch (const GrammarTooCostly & e) {
        throw Error(SHIMMY_E_INVALID, std::string("grammar: ") + e.what(), "grammar");
    }
    if (start == Automaton::kDead) {
        throw Error(SHIMMY_E_INVALID, "grammar: no text can match it", "grammar");
    }
}

std::shared_ptr<Automaton> Grammar::automaton() {
    const std::lock_guard<std::mutex> lock(mutex_);
    bool full = false;
    {
        const std::lock_guard<std::mutex> inner(automaton_->mutex());
        full = automaton_->full();
    }
    if (full) {
        automaton_ = std::make_shared<Automaton>(compiled_);
    }
    return automaton_;
}

size_t Grammar::bytes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::lock_guard<std::mutex> inner(automaton_->mutex());
    const Rules & rules = compiled_->rules;
    size_t bytes = automaton_->bytes() + compiled_->classes.bytes() + rules.symbols.size() * sizeof(Symbol) + rules.starts.size() * 4;
    for (const CharacterSet & set : rules.sets) {
        bytes += set.size() * 8 + 48;
    }
    return bytes;
}

GrammarConstraint::GrammarConstraint(std::shared_ptr<Grammar> grammar)
    : grammar_(std::move(grammar)), automaton_(grammar_->automaton()) {
    const std::lock_guard<std::mutex> lock(automaton_->mutex());
    automaton_->begin();
    place_ = {automaton_->start(), {}};
    if (grammar_->lazy()) {
        asleep_ = std::make_unique<TriggerWatch>(grammar_->triggers());
    }
}

bool GrammarConstraint::allows(int32_t token) {
    if (asleep_) {
        return true;
    }
    if (place_.dead()) {
        return false;
    }
    const std::lock_guard<std::mutex> lock(automaton_->mutex());
    try {
        automaton_->begin();
        answer_ = after(place_, token);
    } catch (const GrammarTooCostly &) {
        too_costly_ = true;
        place_.state = Automaton::kDead;
        return false;
    }
    asked_ = answer_.dead() ? -1 : token;
    return !answer_.dead();
}

void GrammarConstraint::mask(float * logits, int32_t n_vocab) {
    constexpr float never = -std::numeric_limits<float>::infinity();
    const std::lock_guard<std::mutex> lock(automaton_->mutex());
    try {
        automaton_->begin();
        if (!place_.dead() && place_.character.remain == 0) {
            apply(automaton_->mask(place_.state), logits, n_vocab);
            return;
        }
        std::vector<float> kept;
        const std::vector<int32_t> & broken = grammar_->compiled().vocabulary->broken();
        for (const int32_t token : broken) {  // nothing else can go on inside of a character
            kept.push_back(!place_.dead() && !after(place_, token).dead() ? logits[token] : never);
        }
        std::fill(logits, logits + n_vocab, never);
        for (size_t i = 0; i < broken.size(); ++i) {
            logits[broken[i]] = kept[i];
        }
    } catch (const GrammarTooCostly &) {
        too_costly_ = true;
        place_.state = Automaton::kDead;
        std::fill(logits, logits + n_vocab, never);
    }
}

// A mask asks for the whole vocabulary, which takes milliseconds at a place where most texts may follow, such as inside of a string.
bool GrammarConstraint::sift(std::vector<Candidate> & tokens) {
    if (asleep_ || place_.dead() || place_.character.remain != 0) {
        return false;
    }
    const std::lock_guard<std::mutex> lock(automaton_->mutex());
    if (automaton_->has_mask(place_.state)) {
        return false;
    }
    try {
        automaton_->begin();
        tokens.erase(std::remove_if(tokens.begin(), tokens.end(),
                                    [&](const Candidate & candidate) { return !after(place_, candidate.token).dead(); }),
                     tokens.end());
    } catch (const GrammarTooCostly &) {
        too_costly_ = true;
        place_.state = Automaton::kDead;
        return false;
    }
    return true;
}

void GrammarConstraint::apply(const std::vector<uint64_t> & bits, float * logits, int32_t n_vocab) {
    constexpr float never = -std::numeric_limits<float>::infinity();
    for (int32_t first = 0; first < n_vocab; first += 64) {
        const uint64_t word = bits[static_cast<size_t>(first) / 64];
        const int32_t end = std::min(first + 64, n_vocab);
        if (word == 0) {
            std::fill(logits + first, logits + end, never);
        } else if (word != ~uint64_t{0}) {
            for (int32_t token = first; token < end; ++token) {
                logits[token] = word >> (token - first) & 1 ? logits[token] : never;
            }
        }
    }
}

void GrammarConstraint::accept(int32_t token) {
    const Vocabulary & vocabulary = *grammar_->compiled().vocabulary;
    if (asleep_) {
        std::vector<std::pair<int32_t, std::string>> replay;
        bool awake = false;
        try {
            awake = asleep_->push(token, vocabulary.full_text(token), replay);
        } catch (const std::regex_error &) {
            too_costly_ = awake = true;
            place_.state = Automaton::kDead;
        }
        if (awake) {
            asleep_.reset();
        }
        for (const auto & [replayed, text] : replay) {
            advance([&] { return after_text(place_, replayed, text); });
        }
    } else if (token == asked_) {
        place_ = answer_;
    } else {
        advance([&] { return after(place_, token); });
    }
    asked_ = -1;
    move_if_full();
}

int32_t GrammarConstraint::failure() const { return too_costly_ ? SHIMMY_TOKEN_TOO_COSTLY : SHIMMY_TOKEN_NO_CHOICE; }

template <typename Step>
void GrammarConstraint::advance(Step && step) {
    if (place_.dead()) {
        return;
    }
    const std::lock_guard<std::mutex> lock(automaton_->mutex());
    try {
        automaton_->begin();
        place_ = step();
    } catch (const GrammarTooCostly &) {
        too_costly_ = true;
        place_.state = Automaton::kDead;
    }
}

GrammarConstraint::Place GrammarConstraint::after(const Place & from, int32_t token) {
    const Compiled & compiled = grammar_->compiled();
    if (compiled.vocabulary->ends(token)) {
        const bool may_end = from.character.remain == 0 && automaton_->may_end(from.state);
        return may_end ? from : Place{Automaton::kDead, {}};
    }
    const auto preserved = compiled.preserved.find(token);
    return after_text(from, token, preserved != compiled.preserved.end() ? preserved->second : compiled.vocabulary->text(token));
}

// By the token itself and by its characters, whichever the grammar has here.
GrammarConstraint::Place GrammarConstraint::after_text(const Place & from, int32_t token, const std::string & text) {
    Place to = from;
    to.state = text.empty() ? Automaton::kDead : automaton_->after_bytes(from.state, to.character, text);
    if (from.character.remain == 0) {
        const int32_t by_token = automaton_->next_by_token(from.state, token);
        if (by_token != Automaton::kDead) {
            to = {to.character.remain == 0 ? automaton_->united(to.state, by_token) : by_token, {}};
        }
    }
    return to;
}

void GrammarConstraint::move_if_full() {
    if (place_.dead()) {
        return;
    }
    {
        const std::lock_guard<std::mutex> lock(automaton_->mutex());
        if (!automaton_->full()) {
            return;
        }
    }
    const std::shared_ptr<Automaton> roomy = grammar_->automaton();
    if (roomy == automaton_) {
        return;
    }
    // Never the other way round by another thread: the way is always from an older automaton to a newer one.
    const std::shared_ptr<Automaton> old = automaton_;  // which nobody else may hold: its mutex must outlive the guard
    const std::lock_guard<std::mutex> from(old->mutex());
    const std::lock_guard<std::mutex> to(roomy->mutex());
    try {
        roomy->begin();
        place_.state = old->moved_to(*roomy, place_.state);
    } catch (const GrammarTooCostly &) {
        too_costly_ = true;
        place_.state = Automaton::kDead;
    }
    automaton_ = roomy;
}

}  // namespace shimmy
