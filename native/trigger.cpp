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

TriggerWatch::TriggerWatch(const Triggers & triggers) : triggers_(triggers), reasoning_(triggers.reasoning.begun) {
    for (const TextTrigger & trigger : triggers.texts) {
        reach_ = std::max(reach_, trigger.word.empty() ? kPatternSees : trigger.word.size());
    }
}

bool TriggerWatch::is_trigger(int32_t token) const {
    return std::find(triggers_.tokens.begin(), triggers_.tokens.end(), token) != triggers_.tokens.end();
}

bool TriggerWatch::push(int32_t token, const std::string & text, Replay & replay) {
    if (!reasoning_ && is_trigger(token)) {
        replay = {{token, text}};
        return true;
    }
    if (triggers_.reasoning.start.empty()) {
        return watch(token, text, replay);
    }
    for (std::string rest = text; !rest.empty();) {
        std::string word;
        const size_t end = find_switch(rest, word);
        if (!reasoning_ && watch(token, rest.substr(0, end), replay)) {
            return true;
        }
        if (end == std::string::npos) {
            return false;
        }
        reasoning_ = !reasoning_;
        if (!reasoning_) {
            if (is_trigger(token)) {
                replay = {{token, text}};
                return true;
            }
            if (watch(token, word, replay)) {
                return true;
            }
        }
        rest.erase(0, end);
    }
    return false;
}

// The end in `text` of the first word that starts reasoning, or ends it; npos: it goes on as it is.
size_t TriggerWatch::find_switch(const std::string & text, std::string & word) {
    const std::string all = tail_ + text;
    const std::vector<std::string> start{triggers_.reasoning.start};
    size_t first = std::string::npos;
    size_t longest = 0;
    for (const std::string & candidate : reasoning_ ? triggers_.reasoning.ends : start) {
        const size_t at = all.find(candidate);
        longest = std::max(longest, candidate.size());
        if (at != std::string::npos && (first == std::string::npos || at + candidate.size() < first)) {
            first = at + candidate.size();
            word = candidate;
        }
    }
    if (first != std::string::npos) {
        const size_t before = tail_.size();
        tail_.clear();
        return first - before;
    }
    tail_ = all.substr(all.size() - std::min(all.size(), longest - 1));
    return first;
}

// Takes text that is no reasoning.
bool TriggerWatch::watch(int32_t token, const std::string & text, Replay & replay) {
    text_ += text;
    pieces_.push_back({token, text.size()});
    for (const TextTrigger & trigger : triggers_.texts) {
        const size_t start = find(trigger, text.size());
        if (start != std::string::npos) {
            replay_from(start, replay);
            return true;
        }
    }
    forget();
    return false;
}

void TriggerWatch::replay_from(size_t start, Replay & replay) const {
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
