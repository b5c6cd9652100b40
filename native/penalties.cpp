#include "penalties.h"

namespace shimmy {

Penalties::Penalties(const shimmy_sampler_params & p)
    : repeat_(p.repeat_penalty), presence_(p.presence_penalty), frequency_(p.frequency_penalty),
      last_n_(static_cast<size_t>(p.repeat_last_n)),
      active_(p.repeat_last_n > 0 && (repeat_ != 1.0f || presence_ != 0.0f || frequency_ != 0.0f)) {}

void Penalties::accept(int32_t token) {
    if (!active_) {
        return;
    }
    window_.push_back(token);
    ++counts_[token];
    if (window_.size() > last_n_) {
        const auto oldest = counts_.find(window_.front());
        if (--oldest->second == 0) {
            counts_.erase(oldest);
        }
        window_.pop_front();
    }
}

// The repeat penalty moves a logit towards "less likely" whatever its sign.
void Penalties::apply(float * logits) const {
    for (const auto & entry : counts_) {
        float & logit = logits[entry.first];
        logit = logit <= 0.0f ? logit * repeat_ : logit / repeat_;
        logit -= static_cast<float>(entry.second) * frequency_ + presence_;
    }
}

}  // namespace shimmy
