// The heaviest of many by quickselect with weights: linear time, where sorting them all would not be.
#pragma once

#include "row.h"

#include <cstddef>
#include <utility>
#include <vector>

namespace shimmy {

// Moves to the front of `c` the fewest of it, in the order of `before` (a strict total order), whose weights reach `wanted`, and
// returns how many these are: at least one, all where the sum of all does not reach it. The order within is left open.
template <typename Before, typename Weight>
size_t reach(std::vector<Candidate> & c, double wanted, Before && is_before, Weight && weight) {
    size_t low = 0;  // all before it are in, and do not reach `wanted`
    size_t high = c.size();
    double reached = 0.0;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (is_before(c[middle], c[low])) {
            std::swap(c[middle], c[low]);
        }
        if (is_before(c[high - 1], c[middle])) {
            std::swap(c[high - 1], c[middle]);
            if (is_before(c[middle], c[low])) {
                std::swap(c[middle], c[low]);
            }
        }
        std::swap(c[middle], c[high - 1]);  // the median of the three divides the others
        const Candidate pivot = c[high - 1];
        size_t end = low;
        double sum = 0.0;
        for (size_t i = low; i + 1 < high; ++i) {
            if (is_before(c[i], pivot)) {
                sum += weight(c[i]);
                std::swap(c[i], c[end++]);
            }
        }
        std::swap(c[end], c[high - 1]);
        if (end > low && reached + sum >= wanted) {
            high = end;
            continue;
        }
        reached += sum + weight(pivot);
        if (reached >= wanted || end + 1 == high) {
            return end + 1;
        }
        low = end + 1;
    }
    return high;
}

// The same for a list that is in order, and stays so.
template <typename Weight>
size_t reach_sorted(const std::vector<Candidate> & c, double wanted, Weight && weight) {
    double reached = 0.0;
    for (size_t n = 0; n < c.size(); ++n) {
        reached += weight(c[n]);
        if (reached >= wanted) {
            return n + 1;
        }
    }
    return c.size();
}

}  // namespace shimmy
