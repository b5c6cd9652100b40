// The DRY stage ("don't repeat yourself", https://github.com/oobabooga/text-generation-webui/pull/5677): a token that would go on
// with a repetition is made less likely, the more so the longer what is repeated.
#pragma once

#include "dry_breakers.h"
#include "shimmy.h"
#include "survivors.h"

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace shimmy {

// The same penalties as llama_sampler_dry_apply, which compares the end of the text with all of it for each token. Here the
// places where the text's end stands once more are carried from token to token: only those after which the new token stands go on.
class Dry {
  public:
    // `breakers` end a repetition.
    Dry(const shimmy_sampler_params & params, std::shared_ptr<const DryBreakers> breakers);

    // The text before the first accept(): linear time, whatever repeats in it.
    void begin(const std::vector<int32_t> & text);

    // At most one step for each time that the token stands in the window.
    void accept(int32_t token);
    void apply(Survivors & s);

    // Whether these settings change anything.
    static bool active(const shimmy_sampler_params & params) {
        return params.dry_multiplier != 0.0f && params.dry_penalty_last_n != 0;
    }

  private:
    // The `length` tokens up to and with position `at` are also the last ones of the text.
    struct Match {
        int64_t at;
        int64_t length;
    };

    int64_t first() const { return end_ - static_cast<int64_t>(text_.size()); }  // position of the window's oldest token
    int32_t token_at(int64_t position) const { return text_[static_cast<size_t>(position - first())]; }
    void find_matches();
    void extend_matches(int32_t token);
    void find_breaker();
    int64_t longest_allowed() const;
    void find_penalties();
    float penalty(int64_t length) const;

    float multiplier_;
    float base_;
    int64_t allowed_length_;
    int64_t last_n_;
    std::shared_ptr<const DryBreakers> breakers_;

    int64_t end_ = 0;            // tokens accepted so far; positions count from the first of them
    std::vector<int32_t> text_;  // the last of them: at least last_n_, where there are as many
    std::unordered_map<int32_t, std::vector<int64_t>> places_;  // of each token of the text, ascending
    std::vector<Match> matches_, extended_;                     // ascending
    std::vector<int64_t> heads_;                                // where a breaker may have begun whose tail can still come
    int64_t breaker_at_ = -1;                                   // the head of the last breaker, and how many tokens follow it in it
    int64_t breaker_tail_ = 0;
    std::unordered_map<int32_t, int64_t> repeats_;  // tokens that would go on with a repetition, and its length so far
};

}  // namespace shimmy
