// Sequence breakers of the DRY stage, as token ids of one vocabulary.
#pragma once

#include "llama.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace shimmy {

// A token whose text holds a whole breaker, or begins one that the tail's tokens end. As llama.cpp's get_overlapping_token_sequences.
class DryBreakers {
  public:
    using Tail = std::vector<int32_t>;

    // The tails that follow `head` in a breaker, an empty one where it is a breaker by itself; nullptr where it is in none.
    const std::vector<Tail> * tails(int32_t head) const {
        const auto found = heads_.find(head);
        return found == heads_.end() ? nullptr : &found->second;
    }

    // Whether this token alone is a breaker.
    bool single(int32_t token) const;

    void add(int32_t head, Tail tail);

    static constexpr size_t max_tail = 20;   // tokens
    static constexpr size_t max_bytes = 40;  // of a breaker, llama.cpp's limit
    static constexpr size_t max_count = 32;

  private:
    std::unordered_map<int32_t, std::vector<Tail>> heads_;
};

// The breakers of one vocabulary, found once for each set of them. llama.cpp reads its whole vocabulary for each breaker of each
// request, tens of milliseconds each time. May be used by several threads.
class DryBreakerCache {
  public:
    // Texts of 1..max_bytes bytes.
    std::shared_ptr<const DryBreakers> find(const llama_vocab * vocab, const std::vector<std::string> & texts);

  private:
    void read_pieces(const llama_vocab * vocab);
    void add_overlaps(const llama_vocab * vocab, const std::string & text, DryBreakers & out) const;

    static constexpr size_t max_sets = 16;

    std::mutex mutex_;
    std::string pieces_;                // the texts of all tokens, one after another
    std::vector<size_t> ends_;          // where each ends
    std::vector<std::pair<std::vector<std::string>, std::shared_ptr<const DryBreakers>>> sets_;  // last used at the end
};

}  // namespace shimmy
