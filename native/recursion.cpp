#include "recursion.h"

#include <algorithm>

namespace shimmy {

namespace {

// Calls visit(rule, begin, end) with each alternative.
template <typename Visit>
void each_alternative(const Rules & rules, Visit && visit) {
    for (uint32_t rule = 0; rule < rules.starts.size(); ++rule) {
        size_t begin = rules.starts[rule];
        while (true) {
            size_t end = begin;
            while (rules.symbols[end].kind != Symbol::kEnd && rules.symbols[end].kind != Symbol::kOr) {
                ++end;
            }
            visit(rule, begin, end);
            if (rules.symbols[end].kind == Symbol::kEnd) {
                break;
            }
            begin = end + 1;
        }
    }
}

// Which rules match the empty text.
std::vector<bool> find_empty(const Rules & rules) {
    struct Alternative {
        uint32_t rule;
        size_t missing;  // symbols not yet known to match the empty text
    };
    std::vector<Alternative> alternatives;
    std::vector<std::vector<size_t>> users(rules.starts.size());
    std::vector<bool> empty(rules.starts.size(), false);
    std::vector<uint32_t> found;
    const auto mark = [&](uint32_t rule) {
        if (!empty[rule]) {
            empty[rule] = true;
            found.push_back(rule);
        }
    };
    each_alternative(rules, [&](uint32_t rule, size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
            if (rules.symbols[i].kind == Symbol::kRule) {
                users[rules.symbols[i].value].push_back(alternatives.size());
            }
        }
        alternatives.push_back({rule, end - begin});
        if (begin == end) {
            mark(rule);
        }
    });
    while (!found.empty()) {
        const uint32_t rule = found.back();
        found.pop_back();
        for (const size_t user : users[rule]) {
            if (--alternatives[user].missing == 0) {
                mark(alternatives[user].rule);
            }
        }
    }
    return empty;
}

struct Edge {
    uint32_t to;
    bool grows;  // something stays to be matched behind `to`
};

// From each rule to the rules that its matching may begin with.
std::vector<std::vector<Edge>> beginnings(const Rules & rules) {
    const std::vector<bool> empty = find_empty(rules);
    std::vector<std::vector<Edge>> edges(rules.starts.size());
    each_alternative(rules, [&](uint32_t rule, size_t begin, size_t end) {
        for (size_t i = begin; i < end && rules.symbols[i].kind == Symbol::kRule; ++i) {
            const uint32_t to = rules.symbols[i].value;
            edges[rule].push_back({to, i + 1 < end});
            if (!empty[to]) {
                break;
            }
        }
    });
    return edges;
}

// Tarjan's strongly connected components without recursion: rules of one component begin with each other.
std::vector<uint32_t> components(const std::vector<std::vector<Edge>> & edges) {
    constexpr uint32_t kNone = UINT32_MAX;
    const size_t n = edges.size();
    std::vector<uint32_t> index(n, kNone), low(n, 0), component(n, kNone), open, path;
    std::vector<size_t> next(n, 0);
    uint32_t counter = 0;
    for (uint32_t start = 0; start < n; ++start) {
        if (index[start] != kNone) {
            continue;
        }
        path.push_back(start);
        while (!path.empty()) {
            const uint32_t rule = path.back();
            if (index[rule] == kNone) {
                index[rule] = low[rule] = counter++;
                open.push_back(rule);
            }
            if (next[rule] < edges[rule].size()) {
                const uint32_t to = edges[rule][next[rule]++].to;
                if (index[to] == kNone) {
                    path.push_back(to);
                } else if (component[to] == kNone) {
                    low[rule] = std::min(low[rule], index[to]);
                }
                continue;
            }
            path.pop_back();
            if (!path.empty()) {
                low[path.back()] = std::min(low[path.back()], low[rule]);
            }
            if (low[rule] == index[rule]) {
                uint32_t member = kNone;
                do {
                    member = open.back();
                    open.pop_back();
                    component[member] = rule;
                } while (member != rule);
            }
        }
    }
    return component;
}

}  // namespace

int64_t find_left_recursion(const Rules & rules) {
    const std::vector<std::vector<Edge>> edges = beginnings(rules);
    const std::vector<uint32_t> component = components(edges);
    for (size_t rule = 0; rule < edges.size(); ++rule) {
        for (const Edge & edge : edges[rule]) {
            if (edge.grows && component[rule] == component[edge.to]) {
                return static_cast<int64_t>(rule);
            }
        }
    }
    return -1;
}

}  // namespace shimmy
