#include "vocabulary.h"

#include "utf8.h"

#include <algorithm>
#include <limits>

namespace shimmy {

namespace {

// The bytes of a token; of control tokens only where `special`.
std::string token_text(const llama_vocab * vocab, int32_t token, bool special) {
    std::string text(64, '\0');
    int32_t n = llama_token_to_piece(vocab, token, text.data(), static_cast<int32_t>(text.size()), 0, special);
    if (n < 0) {
        text.resize(static_cast<size_t>(-n));
        n = llama_token_to_piece(vocab, token, text.data(), -n, 0, special);
    }
    text.resize(static_cast<size_t>(std::max(n, 0)));
    return text;
}

void sort_unique(std::vector<uint32_t> & values) {
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
}

}  // namespace

Vocabulary::Vocabulary(const llama_vocab * vocab) {
    const size_t n = static_cast<size_t>(llama_vocab_n_tokens(vocab));
    texts_.resize(n);
    ends_.resize(n);
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE) {
        return;
    }
    std::vector<std::vector<uint32_t>> paths(n);
    for (size_t i = 0; i < n; ++i) {
        const auto token = static_cast<int32_t>(i);
        ends_[i] = llama_vocab_is_eog(vocab, token);
        texts_[i] = token_text(vocab, token, false);
        if (ends_[i] || texts_[i].empty()) {
            hidden_.emplace(token, token_text(vocab, token, true));
        }
        if (ends_[i]) {
            end_tokens_.push_back(token);
            continue;
        }
        const std::string & text = texts_[i];
        if (text.find('\0') != std::string::npos) {
            texts_[i].clear();  // llama.cpp never allows it either
        } else if (first_invalid_utf8(text) == std::string::npos) {
            for (size_t at = 0; at < text.size();) {
                paths[i].push_back(take_utf8(text, at));
            }
            if (paths[i].size() > kMaxDepth) {
                paths[i].clear();
                broken_.push_back(token);
            }
        } else {
            broken_.push_back(token);
        }
        characters_.insert(characters_.end(), paths[i].begin(), paths[i].end());
        if (characters_.size() > (1u << 20)) {
            sort_unique(characters_);
        }
    }
    sort_unique(characters_);
    plant(paths);
}

const std::string & Vocabulary::full_text(int32_t token) const {
    const auto hidden = hidden_.find(token);
    return hidden != hidden_.end() ? hidden->second : text(token);
}

void Vocabulary::plant(const std::vector<std::vector<uint32_t>> & paths) {
    for (size_t i = 0; i < paths.size(); ++i) {
        if (!paths[i].empty()) {
            in_tree_.push_back(static_cast<int32_t>(i));
        }
    }
    const auto path = [&](int32_t token) -> const std::vector<uint32_t> & { return paths[static_cast<size_t>(token)]; };
    std::sort(in_tree_.begin(), in_tree_.end(),
              [&](int32_t a, int32_t b) { return path(a) != path(b) ? path(a) < path(b) : a < b; });
    std::vector<uint32_t> open;  // the nodes of the path before
    const auto close_to = [&](size_t depth) {
        for (; open.size() > depth; open.pop_back()) {
            tree_[open.back()].after = static_cast<uint32_t>(tree_.size());
        }
    };
    for (size_t t = 0; t < in_tree_.size(); ++t) {
        const std::vector<uint32_t> & text = path(in_tree_[t]);
        size_t shared = 0;
        while (shared < std::min(open.size(), text.size()) && characters_[tree_[open[shared]].character] == text[shared]) {
            ++shared;
        }
        close_to(shared);
        for (size_t depth = shared; depth < text.size(); ++depth) {
            const auto character = std::lower_bound(characters_.begin(), characters_.end(), text[depth]) - characters_.begin();
            open.push_back(static_cast<uint32_t>(tree_.size()));
            tree_.push_back({static_cast<uint32_t>(character), 0, static_cast<uint32_t>(t), 0, static_cast<uint16_t>(depth + 1)});
        }
        Node & last = tree_[open.back()];
        if (last.n_tokens == 0) {
            last.first_token = static_cast<uint32_t>(t);
        }
        if (last.n_tokens < std::numeric_limits<uint16_t>::max()) {
            ++last.n_tokens;
        }
    }
    close_to(0);
}

}  // namespace shimmy
