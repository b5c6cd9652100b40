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
float Penalties::penalized(float logit, int32_t count) const {
    logit = logit <= 0.0f ? logit * repeat_ : logit / repeat_;
    return logit - (static_cast<float>(count) * frequency_ + presence_);
}

void Penalties::apply(Survivors & s) const {
    if (s.whole()) {
        for (const auto & entry : counts_) {
            s.row().set(entry.first, penalized(s.row().at(entry.first), entry.second));
        }
        return;
    }
    for (Candidate & c : s.list()) {
        const auto entry = counts_.find(c.token);
        if (entry != counts_.end()) {
            c.logit = penalized(c.logit, entry->second);
        }
    }
    s.changed();
}

}  // namespace shimmy
