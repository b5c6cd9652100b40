// What may come next in a text, read off an earlier place of it that went on from the same tokens.
//
// Prompt lookup (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding): answers that edit, extract or quote repeat long
// stretches of their prompt. What such a guess is worth is counted all the time, also while nobody uses it: the place that would be
// guessed from is known before each token, and the token then says whether the guess was right. So trying costs nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shimmy {

// Of one text. Each token takes a bounded time, and the index a bounded memory: of a long text only its end is kept.
class Lookup {
  public:
    static constexpr size_t most = 1 << 16;  // tokens that are kept at least; twice as many at most

    // Begins with a text, of which nothing is learned.
    Lookup(const int32_t * text, size_t n);

    // The text goes on with `token`.
    void accept(int32_t token);

    // How likely the first guess is right, as the text so far shows; 0 where there is none.
    float chance() const { return source_ < 0 ? 0.0f : chance_of(matched_); }

    // Writes at most `n` guesses of the next tokens, and how likely each is right where those before it are. Returns how many.
    size_t propose(size_t n, int32_t * tokens, float * chances) const;

  private:
    struct Kind {
        float hits, n;  // of the last guesses, older ones weigh less
    };

    static size_t kind_of(size_t matched);
    float chance_of(size_t matched) const;
    void learn(bool hit);
    void push(int32_t token);
    void shorten();
    void find();
    size_t match(size_t at) const;
    size_t bucket(size_t end) const;

    std::vector<int32_t> text_;
    std::vector<int32_t> before_;  // by place: the last one before it whose tokens up to there have the same hash; -1: none
    std::vector<int32_t> last_;    // by hash: the last place
    int64_t source_ = -1;          // where the next token is read off; -1: nowhere
    size_t matched_ = 0;           // tokens before that place and before the text's end that are the same
    std::vector<Kind> kinds_;
};

}  // namespace shimmy
