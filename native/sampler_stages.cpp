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

// Cuts the list to its first n in an order that `is_before` gives, or to min_keep where these are more. The first n are in place, and
// all of them in a list that is sorted.
template <typename Before>
void cut_in_order(Survivors & s, size_t n, int32_t min_keep, Before && is_before) {
    const size_t wanted = std::min(std::max(n, static_cast<size_t>(min_keep)), s.list().size());
    if (!s.sorted() && wanted > n && wanted < s.list().size()) {
        std::nth_element(s.list().begin() + static_cast<std::ptrdiff_t>(n),
                         s.list().begin() + static_cast<std::ptrdiff_t>(wanted - 1), s.list().end(), is_before);
    }
    s.cut(wanted, at_least(n, min_keep, s));
}

// exp(logit - top), in which sums of exp_sum(1) are made.
double weight(const Candidate & c, float top) { return static_cast<double>(std::exp(c.logit - top)); }

// Lists a row from its maximum down, first by `depth` and then a bit deeper each time, until what is listed weighs `wanted` of the
// row's `sum`. There is no need to go deeper than where all of the row, if it were there, could not make up for the difference.
void list_down(Survivors & s, double depth, double wanted, double sum) {
    const float top = s.max();
    const double missing = std::max(sum - wanted, 1e-30);
    const double deepest = std::min(std::log(static_cast<double>(s.row().size()) / missing), 80.0);
    for (;; depth += 1.5) {
        s.row().collect(top - static_cast<float>(depth), s.list());
        double listed = 0.0;
        for (const Candidate & c : s.list()) {
            listed += weight(c, top);
        }
        if (listed >= wanted || depth >= deepest) {
            return;
        }
    }
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

// Among what is listed a selection by weight finds the cut: nothing is sorted, and most of the row is not looked at twice.
void top_p(Survivors & s, float p, int32_t min_keep) {
    const float top = s.max();
    const double sum = s.whole() ? s.row().exp_sum(1.0f) : s.moments().w;
    const double wanted = static_cast<double>(p) * sum;
    if (s.whole()) {
        list_down(s, 3.0, wanted, sum);
        if (s.list().size() < static_cast<size_t>(min_keep)) {
            s.row().largest(min_keep, s.list());
        }
        s.narrow(s.nominal(), false);
    }
    const auto weigh = [top](const Candidate & c) { return weight(c, top); };
    const size_t n = s.sorted() ? reach_sorted(s.list(), wanted, weigh) : reach(s.list(), wanted, before, weigh);
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
    const auto enough = [&](const Candidate & c) { return c.logit >= least; };
    const auto end = s.sorted() ? std::partition_point(s.list().begin(), s.list().end(), enough)
                                : std::partition(s.list().begin(), s.list().end(), enough);
    cut_in_order(s, static_cast<size_t>(end - s.list().begin()), min_keep, before);
}

// With x = logit - max, S the sum of exp(x) and m the mean of x under the distribution, a token's surprise is ln S - x and the
// entropy ln S - m: what counts is how far x is from m. A row is listed at least as far below m as the maximum is above it, so that what
// is left out is farther from m than all that is listed.
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
    const double more_than = std::nextafter(static_cast<double>(p) * moments.w, std::numeric_limits<double>::infinity());
    if (s.whole()) {
        list_down(s, 2.0 * static_cast<double>(top - mean) + 1e-3, more_than, moments.w);
        if (s.list().size() < static_cast<size_t>(min_keep)) {
            list_all(s);
        }
        s.narrow(s.nominal(), false);
    }
    s.disorder();
    const size_t n = reach(s.list(), more_than, nearer, [top](const Candidate & c) { return weight(c, top); });
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
