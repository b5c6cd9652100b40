#include "render_bounds.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <stdexcept>

namespace shimmy {

namespace {

using clock = std::chrono::steady_clock;

constexpr size_t max_string = size_t{64} << 20;  // bytes of one string, and of a list's entries
constexpr size_t max_total = size_t{512} << 20;  // bytes of all strings that a render makes or shows
constexpr double max_range = 1'000'000;          // numbers in one range()
constexpr uint32_t steps_between_looks = 64;     // at the clock
constexpr uint32_t max_depth = 1000;             // nodes within one another; a node takes about 1.5 KB of the stack

struct Budget {
    clock::time_point end;
    size_t bytes = 0;
    uint32_t steps = 0;
    uint32_t depth = 0;
    const char * spent = nullptr;  // what ran out
    bool set = false;
};

thread_local Budget budget;

[[noreturn]] void overrun(const char * what) {
    budget.spent = what;
    throw std::runtime_error(what);
}

constexpr const char * grows = "its text grows without end";

}  // namespace

RenderBounds::RenderBounds(double seconds) : outer_(!budget.set) {
    if (outer_) {
        budget = Budget{};
        budget.set = true;
        budget.end = clock::now() + std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(seconds));
    }
}

RenderBounds::~RenderBounds() {
    if (outer_) {
        budget.set = false;
    }
}

void RenderBounds::require_unspent() {
    if (budget.set && budget.spent != nullptr) {
        overrun(budget.spent);
    }
}

Step::Step() {
    tick();
    if (budget.depth >= max_depth) {
        overrun("it calls itself without end, or nests too deep");
    }
    ++budget.depth;
}

Step::~Step() { --budget.depth; }

// What ran out once stays so: llama.cpp's analysis of a template catches errors and goes on.
void tick() {
    if (!budget.set) {
        return;
    }
    if (budget.spent != nullptr) {
        overrun(budget.spent);
    }
    if (++budget.steps % steps_between_looks == 0 && clock::now() > budget.end) {
        overrun("it takes too long");
    }
}

void charge(size_t bytes) {
    if (!budget.set) {
        return;
    }
    budget.bytes += std::min(bytes, max_total);
    if (bytes > max_string || budget.bytes > max_total) {
        overrun(grows);
    }
}

// All values have both members; what a value is not is empty.
void charge_value(const jinja::value & v) {
    charge(v->val_str.length());
    if (budget.set && v->val_arr.size() > max_string / sizeof(jinja::value)) {
        overrun(grows);
    }
}

void require_size(size_t bytes) {
    if (budget.set && bytes > max_string) {
        overrun(grows);
    }
}

void require_range(double numbers) {
    if (budget.set && numbers > max_range) {
        overrun("a range() of it is too long");
    }
}

}  // namespace shimmy
