#include "lookup.h"

#include <algorithm>
#include <iterator>

namespace shimmy {

namespace {

constexpr size_t gram = 3;        // tokens that must be the same for a place to be found
constexpr int candidates = 8;     // places that are looked at, and how many more may only have the same hash
constexpr int strangers = 64;
constexpr size_t longest = 64;    // tokens that are compared at each
constexpr float weight = 4.0f;    // guesses that the chances below are worth
constexpr float fading = 0.96f;   // of what older guesses count, with each new one

// Guesses are told apart by how many tokens before them are the same, up to these counts. Fewer than `gram` there are only behind a
// token that was another one, while the text is expected to go on as its source does: one word was replaced. The chances are those that
// answers of the default model had (docs/performance.md).
constexpr size_t ends[] = {0, 1, 2, 3, 4, 6, 9, 14, 22, 40};
constexpr float chances_at_first[] = {0.2f, 0.3f, 0.4f, 0.25f, 0.35f, 0.5f, 0.6f, 0.75f, 0.85f, 0.92f, 0.96f};

}  // namespace

Lookup::Lookup(const int32_t * text, size_t n) : last_(1024, -1), kinds_(std::size(chances_at_first), Kind{0.0f, 0.0f}) {
    const size_t kept = std::min(n, most);
    text_.reserve(kept + 256);
    before_.reserve(kept + 256);
    for (size_t i = n - kept; i < n; ++i) {
        push(text[i]);
    }
    find();
}

size_t Lookup::kind_of(size_t matched) {
    return static_cast<size_t>(std::lower_bound(std::begin(ends), std::end(ends), matched) - std::begin(ends));
}

float Lookup::chance_of(size_t matched) const {
    const size_t kind = kind_of(matched);
    return (chances_at_first[kind] * weight + kinds_[kind].hits) / (weight + kinds_[kind].n);
}

void Lookup::learn(bool hit) {
    Kind & kind = kinds_[kind_of(matched_)];
    kind.hits = kind.hits * fading + (hit ? 1.0f : 0.0f);
    kind.n = kind.n * fading + 1.0f;
}

void Lookup::accept(int32_t token) {
    const bool guessed = source_ >= 0;
    const bool hit = guessed && text_[static_cast<size_t>(source_)] == token;
    if (guessed) {
        learn(hit);
    }
    const int64_t resumed = guessed && !hit && matched_ >= gram ? source_ + 1 : -1;
    push(token);
    if (hit) {
        ++source_;
        ++matched_;
    } else {
        find();
        if (source_ < 0) {
            source_ = resumed;
        }
    }
    if (text_.size() >= 2 * most) {
        shorten();
    }
}

size_t Lookup::propose(size_t n, int32_t * tokens, float * chances) const {
    if (source_ < 0) {
        return 0;
    }
    const size_t source = static_cast<size_t>(source_);
    n = std::min(n, text_.size() - source);
    for (size_t i = 0; i < n; ++i) {
        tokens[i] = text_[source + i];
        chances[i] = chance_of(matched_ + i);
    }
    return n;
}

// Of the tokens that end before `end`: Fibonacci hashing of a polynomial in 64 bits.
size_t Lookup::bucket(size_t end) const {
    uint64_t hash = 0;
    for (size_t i = end - gram; i < end; ++i) {
        hash = (hash + static_cast<uint32_t>(text_[i]) + 1) * 0x9E3779B97F4A7C15ull;
    }
    return static_cast<size_t>(hash >> 20) & (last_.size() - 1);
}

void Lookup::push(int32_t token) {
    text_.push_back(token);
    before_.push_back(-1);
    const size_t n = text_.size();
    if (n < gram) {
        return;
    }
    if (n <= last_.size()) {
        int32_t & last = last_[bucket(n)];
        before_[n - 1] = last;
        last = static_cast<int32_t>(n - 1);
        return;
    }
    last_.assign(2 * last_.size(), -1);
    for (size_t end = gram; end <= n; ++end) {
        int32_t & last = last_[bucket(end)];
        before_[end - 1] = last;
        last = static_cast<int32_t>(end - 1);
    }
}

// Keeps the last `most` tokens, once for as many.
void Lookup::shorten() {
    const std::vector<int32_t> kept(text_.end() - static_cast<std::ptrdiff_t>(most), text_.end());
    const int64_t gone = static_cast<int64_t>(text_.size() - most);
    text_.clear();
    before_.clear();
    std::fill(last_.begin(), last_.end(), -1);
    for (const int32_t token : kept) {
        push(token);
    }
    source_ = source_ < gone ? -1 : source_ - gone;
}

// How many tokens up to the place `at` and up to the text's end are the same, as far as they are compared.
size_t Lookup::match(size_t at) const {
    const size_t end = text_.size() - 1;
    size_t n = 0;
    while (n <= at && n < longest && text_[at - n] == text_[end - n]) {
        ++n;
    }
    return n;
}

// The place that has most in common with the text's end; of equal ones the last.
void Lookup::find() {
    source_ = -1;
    matched_ = 0;
    if (text_.size() < gram) {
        return;
    }
    int32_t at = before_.back();
    int found = 0, strange = 0;
    for (; found < candidates && strange < strangers && at >= 0; at = before_[static_cast<size_t>(at)]) {
        const size_t n = match(static_cast<size_t>(at));
        ++(n >= gram ? found : strange);
        if (n >= gram && n > matched_) {
            source_ = at + 1;
            matched_ = n;
        }
    }
}

}  // namespace shimmy
