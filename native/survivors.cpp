#include "survivors.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shimmy {

void Survivors::start(Row & row) {
    row_ = &row;
    whole_ = true;
    sorted_ = false;
    nominal_ = row.size();
    temperature_ = 1.0f;
    list_.clear();
}

void Survivors::start(const std::vector<Candidate> & largest, int32_t n) {
    row_ = nullptr;
    temperature_ = 1.0f;
    list_ = largest;
    narrow(n, false);
    sort();
}

float Survivors::max() {
    if (whole_) {
        return row_->max();
    }
    float max = list_.front().logit;
    for (size_t i = 1; !sorted_ && i < list_.size(); ++i) {
        max = std::max(max, list_[i].logit);
    }
    return max;
}

Moments Survivors::moments() {
    if (whole_) {
        return row_->moments();
    }
    const float top = max();
    Moments out{0.0, 0.0};
    for (const Candidate & c : list_) {
        const double x = static_cast<double>(c.logit - top);
        const double w = std::exp(x);
        out.w += w;
        out.wx += w * x;
    }
    return out;
}

void Survivors::narrow(int64_t nominal, bool sorted) {
    whole_ = false;
    sorted_ = sorted;
    nominal_ = nominal;
}

void Survivors::cut(size_t n, int64_t nominal) {
    list_.resize(n);
    nominal_ = nominal;
}

void Survivors::sort() {
    if (!sorted_) {
        std::sort(list_.begin(), list_.end(), before);
        sorted_ = true;
    }
}

void Survivors::changed() {
    const auto banned = [](const Candidate & c) { return !(c.logit > -std::numeric_limits<float>::infinity()); };
    list_.erase(std::remove_if(list_.begin(), list_.end(), banned), list_.end());
    sorted_ = false;
}

void Survivors::keep_best() {
    if (whole_) {
        const int32_t token = row_->argmax();
        list_.assign(1, {token, row_->max()});
        narrow(nominal_, true);
        return;
    }
    const Candidate best = sorted_ ? list_.front() : *std::min_element(list_.begin(), list_.end(), before);
    list_.assign(1, best);
    sorted_ = true;
}

// A quotient without bounds leaves the most likely token alone, as a temperature of 0 does.
void Survivors::divide(float temperature, bool last) {
    if (!std::isfinite(max() / temperature)) {
        keep_best();
    } else if (last) {
        temperature_ = temperature;
    } else if (whole_) {
        row_->divide(temperature);
    } else {
        for (Candidate & c : list_) {
            c.logit /= temperature;
        }
        const bool was_sorted = sorted_;  // quotients keep the order
        changed();
        sorted_ = was_sorted;
    }
}

int32_t Survivors::draw(Random & random) {
    if (whole_) {
        return row_->walk(temperature_, random.uniform() * row_->exp_sum(temperature_));
    }
    return list_.empty() ? -1 : draw_listed(random.uniform());
}

int32_t Survivors::draw_listed(double share) {
    if (list_.size() == 1) {
        return list_.front().token;
    }
    const float top = max();
    const float scale = std::min(1.0f / temperature_, std::numeric_limits<float>::max());
    double sum = 0.0;
    weights_.resize(list_.size());
    for (size_t i = 0; i < list_.size(); ++i) {
        weights_[i] = std::exp((list_[i].logit - top) * scale);
        sum += static_cast<double>(weights_[i]);
    }
    double left = share * sum;
    size_t last = 0;
    for (size_t i = 0; i < list_.size(); ++i) {
        if (weights_[i] > 0.0f) {
            last = i;
            left -= static_cast<double>(weights_[i]);
            if (left <= 0.0) {
                break;
            }
        }
    }
    return list_[last].token;
}

const std::vector<Candidate> & Survivors::settle() {
    if (whole_) {
        row_->collect(-std::numeric_limits<float>::infinity(), list_);
        narrow(nominal_, false);
    }
    divide(temperature_, false);
    temperature_ = 1.0f;
    sort();
    return list_;
}

}  // namespace shimmy
