#include "trigger.h"

#include "error.h"

#include <algorithm>

namespace shimmy {

namespace {

// As llama_grammar_trigger_pattern::find: the first group that holds something, else all that matched.
size_t start_of(const std::smatch & match) {
    for (size_t i = 1; i < match.size(); ++i) {
        if (match.length(i) > 0) {
            return static_cast<size_t>(match.position(i));
        }
    }
    return static_cast<size_t>(match.position(0));
}

}  // namespace

void Triggers::add_word(const std::string & word) {
    if (word.empty()) {
        throw Error(SHIMMY_E_INVALID, "triggers: a word is empty", "triggers");
    }
    texts.push_back({word, {}, false});
}

void Triggers::add_pattern(const std::string & pattern) {
    try {
        const bool whole = !pattern.empty() && pattern.front() == '^' && pattern.back() == '$';
        texts.push_back({"", std::regex(pattern), whole});
    } catch (const std::regex_error & e) {
        throw Error(SHIMMY_E_INVALID, "triggers: the pattern '" + pattern + "' is wrong: " + e.what(), "triggers");
    }
}

void Triggers::add_full_pattern(const std::string & pattern) {
    if (pattern.empty()) {
        add_pattern("^$");
        return;
    }
    add_pattern((pattern.front() != '^' ? "^" : "") + pattern + (pattern.back() != '$' ? "$" : ""));
}

TriggerWatch::TriggerWatch(const Triggers & triggers) : triggers_(triggers) {
    for (const TextTrigger & trigger : triggers.texts) {
        reach_ = std::max(reach_, trigger.word.empty() ? kPatternSees : trigger.word.size());
    }
}

bool TriggerWatch::push(int32_t token, const std::string & text, std::vector<std::pair<int32_t, std::string>> & replay) {
    if (std::find(triggers_.tokens.begin(), triggers_.tokens.end(), token) != triggers_.tokens.end()) {
        replay = {{token, text}};
        return true;
    }
    text_ += text;
    pieces_.push_back({token, text.size()});
    for (const TextTrigger & trigger : triggers_.texts) {
        const size_t start = find(trigger, text.size());
        if (start == std::string::npos) {
            continue;
        }
        replay.clear();
        size_t begin = 0;
        for (const Piece & piece : pieces_) {
            const size_t end = begin + piece.size;
            if (end > start) {
                const size_t from = std::max(begin, start);
                replay.emplace_back(piece.token, text_.substr(from, end - from));
            }
            begin = end;
        }
        return true;
    }
    forget();
    return false;
}

size_t TriggerWatch::find(const TextTrigger & trigger, size_t n_new) const {
    if (trigger.word.empty()) {
        return find_pattern(trigger);
    }
    const size_t back = std::min(text_.size(), n_new + trigger.word.size() - 1);
    return text_.find(trigger.word, text_.size() - back);
}

size_t TriggerWatch::find_pattern(const TextTrigger & trigger) const {
    const size_t skipped = text_.size() > kPatternSees ? text_.size() - kPatternSees : 0;
    const bool all = skipped == 0;  // forget() keeps more than that, so nothing was cut either
    std::smatch match;
    if (trigger.whole && all && std::regex_match(text_, match, trigger.pattern)) {
        return start_of(match);
    }
    const auto flags = all ? std::regex_constants::match_default
                           : std::regex_constants::match_not_bol | std::regex_constants::match_prev_avail;
    const auto begin = text_.begin() + static_cast<std::ptrdiff_t>(skipped);
    const bool found = std::regex_search(begin, text_.end(), match, trigger.pattern, flags);
    return found ? start_of(match) + skipped : std::string::npos;
}

// Drops whole tokens that no trigger can reach back to, now and then, so that it costs little.
void TriggerWatch::forget() {
    if (text_.size() <= 2 * reach_ + 1024) {
        return;
    }
    size_t n_pieces = 0;
    size_t n_bytes = 0;
    while (text_.size() - n_bytes - pieces_[n_pieces].size > reach_) {
        n_bytes += pieces_[n_pieces++].size;
    }
    text_.erase(0, n_bytes);
    pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(n_pieces));
}

}  // namespace shimmy
