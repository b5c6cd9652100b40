#include "mirostat.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace shimmy {

namespace {

constexpr float bits = 1.44269504088896341f;  // of one nat
constexpr int32_t fitted = 100;               // tokens that version 1 estimates the distribution's exponent from

}  // namespace

Mirostat::Mirostat(const shimmy_sampler_params & p, int32_t n_vocab)
    : version_(p.mirostat), target_(p.mirostat_tau), rate_(p.mirostat_eta), n_vocab_(n_vocab), most_(2.0f * p.mirostat_tau) {}

// How many tokens of a Zipf distribution, whose exponent is fitted to the most likely ones, have at most `most_` surprise.
int32_t Mirostat::wanted_tokens(const Survivors & s, const std::vector<Candidate> & top) const {
    double products = 0.0, squares = 0.0;
    for (size_t i = 0; i + 1 < top.size(); ++i) {
        const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
        products += t * static_cast<double>(top[i].logit - top[i + 1].logit);
        squares += t * t;
    }
    const double exponent = products / squares;
    const double epsilon = exponent - 1.0;
    const double k = std::pow(epsilon * std::pow(2.0, static_cast<double>(most_)) /
                                  (1.0 - std::pow(static_cast<double>(n_vocab_), -epsilon)),
                              1.0 / exponent);
    return k >= 1.0 ? static_cast<int32_t>(std::min(k, static_cast<double>(s.nominal()))) : 1;  // NaN gives 1 as well
}

void Mirostat::narrow(Survivors & s) const {
    if (version_ == 1) {
        if (!s.whole()) {  // greedy
            return;
        }
        s.row().largest(fitted, s.list());
        const int32_t k = wanted_tokens(s, s.list());
        if (static_cast<size_t>(k) <= s.list().size()) {
            s.list().resize(static_cast<size_t>(k));
            s.narrow(k, true);
        } else {
            s.row().select(k, s.list());
            s.narrow(k, false);
        }
        return;
    }
    if (s.whole()) {
        // -log2(p) <= most_, with p = exp(logit - max) / sum
        const float depth = most_ / bits - static_cast<float>(std::log(s.row().exp_sum(1.0f)));
        if (depth < 0.0f) {
            s.keep_best();
            return;
        }
        s.row().collect(s.max() - depth, s.list());
        s.narrow(static_cast<int64_t>(s.list().size()), false);
    }
}

int32_t Mirostat::draw(Survivors & s, Random & random) {
    const int32_t token = s.draw(random);
    const float top = s.max();
    const auto drawn =
        std::find_if(s.list().begin(), s.list().end(), [token](const Candidate & c) { return c.token == token; });
    if (drawn == s.list().end()) {
        return -1;
    }
    const float surprise = (static_cast<float>(std::log(s.moments().w)) - (drawn->logit - top)) * bits;
    const float next = most_ - rate_ * (surprise - target_);
    most_ = std::clamp(next, -1e30f, 1e30f);  // stays a number whatever the rate is
    return token;
}

}  // namespace shimmy
