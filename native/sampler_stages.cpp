#include "sampler_stages.h"

#include "prefix.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shimmy {

namespace {

// The candidates that a stage with min_keep keeps in the end, as the chain counts them.
int64_t at_least(size_t n, int32_t min_keep, const Survivors & s) {
    return std::max<int64_t>(static_cast<int64_t>(n), std::min<int64_t>(min_keep, s.nominal()));
}

// Everything that is left, as a list.
void list_all(Survivors & s) {
    if (s.whole()) {
        s.row().collect(-std::numeric_limits<float>::infinity(), s.list());
        s.narrow(s.nominal(), false);
    }
}

// Cuts the list to its first n in an order that `is_before` gives, or to min_keep where these are more. The first n are in place.
template <typename Before>
void cut_in_order(Survivors & s, size_t n, int32_t min_keep, Before && is_before) {
    const size_t wanted = std::min(std::max(n, static_cast<size_t>(min_keep)), s.list().size());
    if (wanted > n && wanted < s.list().size()) {
        std::nth_element(s.list().begin() + static_cast<std::ptrdiff_t>(n),
                         s.list().begin() + static_cast<std::ptrdiff_t>(wanted - 1), s.list().end(), is_before);
    }
    s.cut(wanted, at_least(n, min_keep, s));
}

// How far below the maximum the logits of tokens lie that together could not hold `share` of `sum`, the row's sum of
// exp(logit - max), if all of the row were there.
double depth_of(double share, double sum, int32_t n) {
    const double outside = std::max(share * sum, 1e-30);
    return std::min(std::log(static_cast<double>(n) / outside), 80.0);
}

}  // namespace

void top_k(Survivors & s, int32_t k) {
    if (k >= s.nominal()) {
        return;
    }
    if (s.whole()) {
        s.row().largest(k, s.list());
        s.narrow(k, true);
        return;
    }
    s.sort();
    s.cut(std::min(s.list().size(), static_cast<size_t>(k)), k);
}

// Over a whole row only what can matter is listed, and among that a selection by weight finds the cut: nothing is sorted.
void top_p(Survivors & s, float p, int32_t min_keep) {
    const float top = s.max();
    double sum;
    if (s.whole()) {
        sum = s.row().exp_sum(1.0f);
        const double depth = depth_of(1.0 - static_cast<double>(p), sum, s.row().size());
        s.row().collect(top - static_cast<float>(depth), s.list());
        if (s.list().size() < static_cast<size_t>(min_keep)) {
            s.row().largest(min_keep, s.list());
        }
        s.narrow(s.nominal(), false);
    } else {
        sum = s.moments().w;
    }
    const size_t n = reach(s.list(), static_cast<double>(p) * sum, before, [&](const Candidate & c) {
        return static_cast<double>(std::exp(c.logit - top));
    });
    cut_in_order(s, n, min_keep, before);
}

void min_p(Survivors & s, float p, int32_t min_keep) {
    const float least = s.max() + std::log(p);
    if (s.whole()) {
        s.row().collect(least, s.list());
        if (s.list().size() < static_cast<size_t>(min_keep)) {
            s.row().largest(min_keep, s.list());
        }
        s.narrow(at_least(s.list().size(), min_keep, s), false);
        return;
    }
    const auto end = std::partition(s.list().begin(), s.list().end(), [&](const Candidate & c) { return c.logit >= least; });
    cut_in_order(s, static_cast<size_t>(end - s.list().begin()), min_keep, before);
}

// With x = logit - max, S the sum of exp(x) and m the mean of x under the distribution, a token's surprise is ln S - x and the
// entropy ln S - m: what counts is how far x is from m. So a row needs listing only down to where, as for top_p, the rest cannot
// matter, or to the same distance below m as the maximum is above it.
//
// A token of probability 0 makes the original's entropy NaN, and what it keeps an accident. Here such a token counts for nothing.
void typical_p(Survivors & s, float p, int32_t min_keep) {
    const Moments moments = s.moments();
    const float top = s.max();
    const float mean = top + static_cast<float>(moments.wx / moments.w);
    const auto nearer = [mean](const Candidate & a, const Candidate & b) {
        const float da = std::fabs(a.logit - mean), db = std::fabs(b.logit - mean);
        return da < db || (da == db && before(a, b));
    };
    if (s.whole()) {
        const double depth = depth_of(1.0 - static_cast<double>(p), moments.w, s.row().size());
        const double enough = std::max(depth, 2.0 * static_cast<double>(top - mean)) + 1e-3;
        s.row().collect(top - static_cast<float>(enough), s.list());
        if (s.list().size() < static_cast<size_t>(min_keep)) {
            list_all(s);
        }
        s.narrow(s.nominal(), false);
    }
    const double more_than = std::nextafter(static_cast<double>(p) * moments.w, std::numeric_limits<double>::infinity());
    const size_t n = reach(s.list(), more_than, nearer, [&](const Candidate & c) {
        return static_cast<double>(std::exp(c.logit - top));
    });
    cut_in_order(s, n, min_keep, nearer);
    s.narrow(at_least(s.list().size(), min_keep, s), false);
}

void top_n_sigma(Survivors & s, float n) {
    if (s.nominal() <= 1) {
        return;
    }
    const float top = s.max();
    if (s.whole()) {
        const double deviation = s.row().deviation();
        s.row().collect(top - static_cast<float>(static_cast<double>(n) * deviation), s.list());
        s.narrow(s.nominal(), false);
        return;
    }
    double sum = 0.0, squares = 0.0;
    for (const Candidate & c : s.list()) {
        const double x = static_cast<double>(c.logit - top);
        sum += x;
        squares += x * x;
    }
    const double size = static_cast<double>(s.list().size());
    const double deviation = std::sqrt(std::max(0.0, squares / size - (sum / size) * (sum / size)));
    const float least = top - static_cast<float>(static_cast<double>(n) * deviation);
    s.sort();
    const auto end = std::find_if(s.list().begin(), s.list().end(), [&](const Candidate & c) { return c.logit < least; });
    s.cut(static_cast<size_t>(end - s.list().begin()), s.nominal());
}

void xtc(Survivors & s, float probability, float threshold, int32_t min_keep, Random & random) {
    if (s.nominal() < 2 || random.uniform() > static_cast<double>(probability)) {
        return;
    }
    const double sum = s.moments().w;
    const float least = s.max() + static_cast<float>(std::log(static_cast<double>(threshold) * sum));
    if (s.whole()) {
        std::vector<Candidate> & top = s.list();
        s.row().collect(least, top);
        std::sort(top.begin(), top.end(), before);
        if (top.size() > 1 && s.nominal() - static_cast<int64_t>(top.size() - 1) >= min_keep) {
            for (size_t i = 0; i + 1 < top.size(); ++i) {
                s.row().set(top[i].token, -std::numeric_limits<float>::infinity());
            }
            s.exclude(static_cast<int64_t>(top.size() - 1));
        }
        return;
    }
    s.sort();
    const auto end = std::find_if(s.list().begin(), s.list().end(), [&](const Candidate & c) { return !(c.logit >= least); });
    const auto n = end - s.list().begin();
    if (n > 1 && s.nominal() - (n - 1) >= min_keep) {
        s.list().erase(s.list().begin(), end - 1);
        s.exclude(n - 1);
    }
}

void temperature(Survivors & s, float value, float range, float exponent, bool last) {
    if (range > 0.0f) {
        if (s.nominal() <= 1) {
            return;
        }
        const Moments moments = s.moments();
        const double entropy = std::max(0.0, std::log(moments.w) - moments.wx / moments.w);
        const double even = entropy / std::log(static_cast<double>(s.nominal()));
        const float lowest = std::max(0.0f, value - range);
        value = lowest + (value + range - lowest) * static_cast<float>(std::pow(even, static_cast<double>(exponent)));
    }
    if (value <= 0.0f) {
        s.keep_best();
    } else {
        s.divide(value, last);
    }
}

}  // namespace shimmy
