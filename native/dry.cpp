#include "dry.h"

#include <algorithm>
#include <cmath>

namespace shimmy {

Dry::Dry(const shimmy_sampler_params & p, std::shared_ptr<const DryBreakers> breakers)
    : multiplier_(p.dry_multiplier), base_(p.dry_base), allowed_length_(p.dry_allowed_length), last_n_(p.dry_penalty_last_n),
      breakers_(std::move(breakers)) {}

void Dry::begin(const std::vector<int32_t> & text) {
    const size_t kept = std::min(text.size(), static_cast<size_t>(last_n_));
    text_.reserve(kept);
    for (auto token = text.end() - static_cast<std::ptrdiff_t>(kept); token != text.end(); ++token) {
        text_.push_back(*token);
        places_[*token].push_back(end_++);
        find_breaker();
    }
    find_matches();
}

// The Z-function of the text read from its end: how far what ends at a place is what ends at the end. Within a stretch [begin, end) that
// is known to repeat the text's end, a length is known from there, up to the stretch's end.
void Dry::find_matches() {
    const size_t n = text_.size();
    std::vector<size_t> lengths(n, 0);
    size_t begin = 0;
    size_t end = 0;
    for (size_t back = 1; back < n; ++back) {
        size_t length = back < end ? std::min(end - back, lengths[back - begin]) : 0;
        while (back + length < n && text_[n - 1 - length] == text_[n - 1 - back - length]) {
            ++length;
        }
        if (back + length > end) {
            begin = back;
            end = back + length;
        }
        lengths[back] = length;
    }
    matches_.clear();
    for (size_t back = n; back-- > 1;) {
        if (lengths[back] > 0) {
            matches_.push_back({end_ - 1 - static_cast<int64_t>(back), static_cast<int64_t>(lengths[back])});
        }
    }
}

void Dry::accept(int32_t token) {
    if (static_cast<int64_t>(text_.size()) >= 2 * last_n_ + 64) {  // now and then, so that it costs nothing a token
        text_.erase(text_.begin(), text_.end() - static_cast<std::ptrdiff_t>(last_n_));
    }
    text_.push_back(token);
    ++end_;
    extend_matches(token);
    find_breaker();
}

void Dry::extend_matches(int32_t token) {
    std::vector<int64_t> & places = places_[token];
    const int64_t oldest = end_ - last_n_;  // of the window
    extended_.clear();
    auto match = matches_.begin();
    for (const int64_t at : places) {
        if (at < oldest) {
            continue;
        }
        while (match != matches_.end() && match->at < at - 1) {
            ++match;
        }
        const bool goes_on = match != matches_.end() && match->at == at - 1;
        extended_.push_back({at, goes_on ? match->length + 1 : 1});
    }
    std::swap(matches_, extended_);
    if (!places.empty() && places.front() < oldest - last_n_) {
        places.erase(places.begin(), std::lower_bound(places.begin(), places.end(), oldest));
    }
    places.push_back(end_ - 1);
}

// A breaker is known when its tail is complete, at most max_tail tokens after its head. The last head counts, with its longest tail.
void Dry::find_breaker() {
    if (breakers_->tails(text_.back()) != nullptr) {
        heads_.push_back(end_ - 1);
    }
    if (!heads_.empty() && heads_.front() < end_ - 1 - static_cast<int64_t>(DryBreakers::max_tail)) {
        heads_.erase(heads_.begin());
    }
    for (auto head = heads_.rbegin(); head != heads_.rend(); ++head) {
        const int64_t behind = end_ - 1 - *head;  // tokens after it
        int64_t longest = -1;
        for (const DryBreakers::Tail & tail : *breakers_->tails(token_at(*head))) {
            const int64_t n = static_cast<int64_t>(tail.size());
            if (n > longest && n <= behind &&
                std::equal(tail.begin(), tail.end(), text_.end() - static_cast<std::ptrdiff_t>(behind))) {
                longest = n;
            }
        }
        if (longest >= 0) {
            breaker_at_ = *head;
            breaker_tail_ = longest;
            return;
        }
    }
}

// Repetitions count only since the last breaker.
int64_t Dry::longest_allowed() const {
    const int64_t window = std::min(end_, last_n_);
    const int64_t back = end_ - 1 - breaker_at_;
    return breaker_at_ >= 0 && back < window ? back - breaker_tail_ : window;
}

void Dry::find_penalties() {
    repeats_.clear();
    const int64_t window = std::min(end_, last_n_);
    const int64_t limit = longest_allowed();
    if (window <= allowed_length_ || limit < allowed_length_) {
        return;
    }
    const int64_t oldest = end_ - window;
    if (allowed_length_ == 0) {  // whatever stands in the text but at its beginning counts as a repetition of nothing
        for (int64_t at = oldest + 1; at < end_; ++at) {
            repeats_.emplace(token_at(at), 0);
        }
    }
    for (const Match & match : matches_) {
        const int64_t length = std::min({match.length, limit, match.at - oldest + 1});
        if (match.at < oldest || length < allowed_length_) {
            continue;
        }
        int64_t & known = repeats_[token_at(match.at + 1)];
        known = std::max(known, length);
    }
}

float Dry::penalty(int64_t length) const {
    constexpr float log_of_largest = 88.7228391f;  // as the original: keeps base^exponent a number
    int64_t exponent = length - allowed_length_;
    if (base_ > 1.000001f) {
        exponent = std::min(exponent, std::max<int64_t>(1, static_cast<int64_t>(log_of_largest / std::log(base_))));
    }
    return static_cast<float>(static_cast<double>(multiplier_) *
                              std::pow(static_cast<double>(base_), static_cast<double>(exponent)));
}

void Dry::apply(Survivors & s) {
    find_penalties();
    if (repeats_.empty()) {
        return;
    }
    if (s.whole()) {
        for (const auto & repeat : repeats_) {
            if (!breakers_->single(repeat.first)) {
                s.row().set(repeat.first, s.row().at(repeat.first) - penalty(repeat.second));
            }
        }
        return;
    }
    for (Candidate & c : s.list()) {
        const auto repeat = repeats_.find(c.token);
        if (repeat != repeats_.end() && !breakers_->single(c.token)) {
            c.logit -= penalty(repeat->second);
        }
    }
    s.changed();
}

}  // namespace shimmy
