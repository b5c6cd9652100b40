// Matching a grammar: states, and the ways between them, made as they are needed and kept.
#pragma once

#include "character_classes.h"
#include "gbnf.h"
#include "utf8.h"
#include "vocabulary.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace shimmy {

// Matching got too costly: the grammar can be read in too many ways at once.
struct GrammarTooCostly : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What a text is matched against, shared by everybody who uses the grammar; never changes.
struct Compiled {
    Compiled(Rules r, std::shared_ptr<const Vocabulary> v)
        : rules(std::move(r)), vocabulary(std::move(v)), classes(rules.sets, vocabulary->characters()) {}

    Rules rules;
    std::shared_ptr<const Vocabulary> vocabulary;
    CharacterClasses classes;
    std::unordered_map<int32_t, std::string> preserved;  // control tokens that answers show, with their texts
};

// A pushdown automaton as llama.cpp's grammar sampler is one: a state is the set of stacks that the text so far leads to. Stacks
// share their lower parts, equal states are one number, and the way from a state by a class of characters is looked up when it was
// gone before. Not for two threads at once: hold mutex().
class Automaton {
  public:
    explicit Automaton(std::shared_ptr<const Compiled> compiled);

    static constexpr int32_t kDead = -1;

    std::mutex & mutex() { return mutex_; }
    const Compiled & compiled() const { return *compiled_; }

    // Allows the calls to come until the next begin() an amount of work of 50 to 100 ms; past it they throw GrammarTooCostly.
    void begin() { work_ = kMaxWork; }

    int32_t start();
    int32_t next(int32_t state, uint32_t cls) {
        const int32_t known = ways_[static_cast<size_t>(state) * n_classes_ + cls];
        return known != kUnknown ? known : make_way(state, cls);
    }
    int32_t next_by_token(int32_t state, int32_t token);  // through symbols that stand for one token
    int32_t united(int32_t a, int32_t b);                 // both states at once; either may be kDead
    bool may_end(int32_t state) const { return states_[static_cast<size_t>(state)].may_end; }

    // Bit t: token t may follow this state, ends of generation included. Valid until the next call of mask().
    const std::vector<uint64_t> & mask(int32_t state);

    // Whether mask() is made already.
    bool has_mask(int32_t state) const { return masks_.find(state) != masks_.end(); }

    // The state after some bytes, with the character that they leave unfinished; kDead where they cannot come there.
    int32_t after_bytes(int32_t state, Utf8 & character, const std::string & bytes);

    // The same state in another automaton of the same grammar.
    int32_t moved_to(Automaton & other, int32_t state) const;

    // More than it should keep: whoever can goes on in a new one.
    bool full() const { return bytes_ > kMaxBytes; }
    size_t bytes() const { return bytes_ + mask_bytes_; }

  private:
    static constexpr int32_t kUnknown = -2;
    static constexpr int64_t kMaxWork = 4'000'000;
    static constexpr size_t kMaxStacks = 20'000;
    static constexpr uint32_t kMaxHeight = 50'000;
    static constexpr size_t kMaxBytes = 8 << 20;
    static constexpr size_t kMaxMaskBytes = 4 << 20;

    struct Stack {
        uint32_t symbol;  // on top
        uint32_t below;   // 0: nothing
        uint32_t height;
        int32_t closure;  // in closures_; -1 not known yet
    };
    struct State {
        std::vector<uint32_t> stacks;  // sorted; 0 is the empty one
        bool may_end;
        bool has_tokens;  // a symbol that stands for one token is on top of a stack
    };

    uint32_t stack_of(uint32_t symbol, uint32_t below);
    uint32_t behind(uint32_t stack);
    const std::vector<uint32_t> & closure(uint32_t stack);
    void extend(uint32_t stack, std::vector<uint32_t> & stacks);
    int32_t state_of(std::vector<uint32_t> stacks);
    int32_t make_way(int32_t state, uint32_t cls);
    bool stands_for(const Symbol & symbol, int32_t token) const;
    bool fits(int32_t state, const std::string & text);
    bool may_become(int32_t state, const Utf8 & character);
    void mark_tree(int32_t state, std::vector<uint64_t> & bits);
    void mark_tokens(int32_t state, std::vector<uint64_t> & bits);
    void work(size_t amount);

    std::shared_ptr<const Compiled> compiled_;
    std::mutex mutex_;
    size_t n_classes_;
    size_t bytes_ = 0;
    int64_t work_ = kMaxWork;
    std::vector<Stack> stacks_;
    std::unordered_map<uint64_t, uint32_t> stack_ids_;
    std::vector<std::vector<uint32_t>> closures_;
    std::vector<State> states_;
    std::unordered_multimap<uint64_t, int32_t> state_ids_;  // by hash of the stacks
    std::vector<int32_t> ways_;  // [state][class]
    std::unordered_map<int32_t, std::vector<uint64_t>> masks_;
    size_t mask_bytes_ = 0;
    std::vector<uint32_t> seen_;  // scratch of closure(): the round in which a stack was met
    uint32_t round_ = 0;
};

}  // namespace shimmy
