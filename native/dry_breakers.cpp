#include "dry_breakers.h"

#include <algorithm>
#include <string_view>

namespace shimmy {

namespace {

std::vector<int32_t> tokenize(const llama_vocab * vocab, const std::string & text) {
    std::vector<int32_t> out(text.size() + 8);
    const int32_t n = llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), out.data(),
                                     static_cast<int32_t>(out.size()), false, false);
    out.resize(static_cast<size_t>(std::max(n, 0)));
    return out;
}

}  // namespace

bool DryBreakers::single(int32_t token) const {
    const std::vector<Tail> * found = tails(token);
    return found != nullptr && std::any_of(found->begin(), found->end(), [](const Tail & t) { return t.empty(); });
}

void DryBreakers::add(int32_t head, Tail tail) {
    std::vector<Tail> & known = heads_[head];
    if (std::find(known.begin(), known.end(), tail) == known.end()) {
        known.push_back(std::move(tail));
    }
}

std::shared_ptr<const DryBreakers> DryBreakerCache::find(const llama_vocab * vocab, const std::vector<std::string> & texts) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto known = std::find_if(sets_.begin(), sets_.end(), [&](const auto & set) { return set.first == texts; });
    if (known != sets_.end()) {
        std::rotate(known, known + 1, sets_.end());
        return sets_.back().second;
    }
    auto breakers = std::make_shared<DryBreakers>();
    if (!texts.empty() && llama_vocab_type(vocab) != LLAMA_VOCAB_TYPE_NONE) {  // that one has no texts
        read_pieces(vocab);
        for (const std::string & text : texts) {
            add_overlaps(vocab, text, *breakers);
        }
    }
    if (sets_.size() == max_sets) {
        sets_.erase(sets_.begin());
    }
    sets_.emplace_back(texts, std::move(breakers));
    return sets_.back().second;
}

void DryBreakerCache::read_pieces(const llama_vocab * vocab) {
    if (!ends_.empty()) {
        return;
    }
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);
    std::vector<size_t> ends;
    std::string buffer(256, '\0');
    for (int32_t token = 0; token < n_vocab; ++token) {
        int32_t n = llama_detokenize(vocab, &token, 1, buffer.data(), static_cast<int32_t>(buffer.size()), false, true);
        if (n < 0) {
            buffer.resize(static_cast<size_t>(-n));
            n = llama_detokenize(vocab, &token, 1, buffer.data(), static_cast<int32_t>(buffer.size()), false, true);
        }
        pieces_.append(buffer, 0, static_cast<size_t>(std::max(n, 0)));
        ends.push_back(pieces_.size());
    }
    ends_ = std::move(ends);
}

void DryBreakerCache::add_overlaps(const llama_vocab * vocab, const std::string & text, DryBreakers & out) const {
    size_t begin = 0;
    for (size_t token = 0; token < ends_.size(); ++token) {
        const std::string_view piece(pieces_.data() + begin, ends_[token] - begin);
        begin = ends_[token];
        const int32_t head = static_cast<int32_t>(token);
        if (piece.find(text) != std::string_view::npos) {
            out.add(head, {});
            continue;
        }
        // The piece may end with the beginning of the breaker.
        for (size_t at = piece.find(text[0]); at != std::string_view::npos; at = piece.find(text[0], at + 1)) {
            const size_t n = piece.size() - at;
            if (n < text.size() && piece.substr(at) == std::string_view(text).substr(0, n)) {
                DryBreakers::Tail tail = tokenize(vocab, text.substr(n));
                tail.resize(std::min(tail.size(), DryBreakers::max_tail));
                out.add(head, std::move(tail));
            }
        }
    }
}

}  // namespace shimmy
