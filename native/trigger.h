// What wakes a lazy grammar.
#pragma once

#include <cstdint>
#include <regex>
#include <string>
#include <utility>
#include <vector>

namespace shimmy {

struct TextTrigger {
    std::string word;  // of a word; empty: a pattern
    std::regex pattern;
    bool whole = false;  // the pattern is anchored at both ends: tried against the whole text first
};

// The parts of an answer in which the model thinks.
struct Reasoning {
    std::string start;              // empty: it does not
    std::vector<std::string> ends;  // any of them ends it
    bool begun = false;             // the prompt's end has begun one
};

struct Triggers {
    std::vector<int32_t> tokens;
    std::vector<TextTrigger> texts;  // tried in this order
    Reasoning reasoning;             // where no trigger counts

    // Throw shimmy::Error (E_INVALID, param "triggers") on an empty text or a pattern that is none.
    void add_word(const std::string & word);
    void add_pattern(const std::string & pattern);
    void add_full_pattern(const std::string & pattern);
};

// How far back a pattern sees, in bytes: std::regex recurses on what it reads, and reads it again at each token.
constexpr size_t kPatternSees = 4096;

// The text of one answer, without what it holds of reasoning, until a trigger shows up in it (llama_grammar_accept_impl while it
// awaits one; common_sampler_accept leaves reasoning out). A word is looked for only where the new token can have completed it, and no
// more text is kept than a trigger can still reach back to.
class TriggerWatch {
  public:
    explicit TriggerWatch(const Triggers & triggers);

    using Replay = std::vector<std::pair<int32_t, std::string>>;

    // Takes the next token. Where that completes a trigger: true, and `replay` is what the grammar takes in now, each token with
    // the part of its text from the trigger's start on.
    bool push(int32_t token, const std::string & text, Replay & replay);

  private:
    struct Piece {
        int32_t token;
        size_t size;
    };

    bool is_trigger(int32_t token) const;
    bool watch(int32_t token, const std::string & text, Replay & replay);
    size_t find_switch(const std::string & text, std::string & word);
    void replay_from(size_t start, Replay & replay) const;
    size_t find(const TextTrigger & trigger, size_t n_new) const;
    size_t find_pattern(const TextTrigger & trigger) const;
    void forget();

    const Triggers & triggers_;
    size_t reach_ = 0;  // bytes that a trigger can be long
    std::string text_;  // the last bytes of the answer, whole tokens
    std::vector<Piece> pieces_;
    bool reasoning_;    // it thinks
    std::string tail_;  // the last bytes, which may begin what ends or starts that
};

}  // namespace shimmy
