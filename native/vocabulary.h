// The texts of a model's tokens, laid out for matching all of them against a grammar at once.
#pragma once

#include "llama.h"

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace shimmy {

// Made once a model. A token counts by what it adds to an answer's text: control tokens add nothing and have no text here.
class Vocabulary {
  public:
    explicit Vocabulary(const llama_vocab * vocab);

    // One character of a path through the tree of all whole texts, in depth-first order.
    struct Node {
        uint32_t character;    // an index into characters()
        uint32_t after;        // the node behind all that begin with this path
        uint32_t first_token;  // tokens whose text is this path: in_tree()[first_token], n_tokens of them
        uint16_t n_tokens;
        uint16_t depth;        // 1 for a first character
    };

    int32_t size() const { return static_cast<int32_t>(texts_.size()); }
    bool ends(int32_t token) const { return ends_[static_cast<size_t>(token)]; }  // it ends a generation
    const std::string & text(int32_t token) const { return texts_[static_cast<size_t>(token)]; }
    const std::string & full_text(int32_t token) const;  // control tokens have one here

    const std::vector<uint32_t> & characters() const { return characters_; }  // the code points in use, sorted
    const std::vector<Node> & tree() const { return tree_; }
    const std::vector<int32_t> & in_tree() const { return in_tree_; }
    const std::vector<int32_t> & broken() const { return broken_; }  // with text, but not of whole characters
    const std::vector<int32_t> & end_tokens() const { return end_tokens_; }

    // Most characters of a text in the tree.
    static constexpr size_t kMaxDepth = 512;

  private:
    void plant(const std::vector<std::vector<uint32_t>> & paths);

    std::vector<std::string> texts_;
    std::unordered_map<int32_t, std::string> hidden_;  // texts of control tokens
    std::vector<bool> ends_;
    std::vector<uint32_t> characters_;
    std::vector<Node> tree_;
    std::vector<int32_t> in_tree_, broken_, end_tokens_;
};

}  // namespace shimmy
