#include "automaton.h"

#include <algorithm>

namespace shimmy {

namespace {

constexpr uint32_t kNoToken = UINT32_MAX;

bool ends_alternative(const Symbol & symbol) { return symbol.kind == Symbol::kEnd || symbol.kind == Symbol::kOr; }

bool is_token(const Symbol & symbol) { return symbol.kind == Symbol::kToken || symbol.kind == Symbol::kNotToken; }

uint64_t hash_of(const std::vector<uint32_t> & stacks) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (const uint32_t stack : stacks) {
        hash = (hash ^ stack) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    return hash;
}

void set_bit(std::vector<uint64_t> & bits, int32_t token) {
    bits[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
}

}  // namespace

Automaton::Automaton(std::shared_ptr<const Compiled> compiled)
    : compiled_(std::move(compiled)), n_classes_(compiled_->classes.count()) {
    stacks_.push_back({0, 0, 0, -1});
    seen_.push_back(0);
}

void Automaton::work(size_t amount) {
    work_ -= static_cast<int64_t>(amount);
    if (work_ < 0) {
        throw GrammarTooCostly("the grammar can be read in too many ways at once");
    }
}

uint32_t Automaton::stack_of(uint32_t symbol, uint32_t below) {
    const uint64_t key = uint64_t{symbol} << 32 | below;
    const auto known = stack_ids_.find(key);
    if (known != stack_ids_.end()) {
        return known->second;
    }
    const uint32_t height = stacks_[below].height + 1;
    if (height > kMaxHeight) {
        throw GrammarTooCostly("the text nests too deep for the grammar");
    }
    const auto id = static_cast<uint32_t>(stacks_.size());
    seen_.push_back(0);
    stacks_.push_back({symbol, below, height, -1});
    stack_ids_.emplace(key, id);  // last: others go on with this automaton where something throws
    bytes_ += sizeof(Stack) + 48;  // with its entry in the table
    return id;
}

// The stack once the symbol on top is matched.
uint32_t Automaton::behind(uint32_t stack) {
    const Stack s = stacks_[stack];
    return ends_alternative(compiled_->rules.symbols[s.symbol + 1]) ? s.below : stack_of(s.symbol + 1, s.below);
}

// The stacks with something to read on top (or nothing at all) that a stack stands for, rules on top of it replaced by their
// alternatives (llama_grammar_advance_stack).
const std::vector<uint32_t> & Automaton::closure(uint32_t stack) {
    if (stacks_[stack].closure >= 0) {
        return closures_[static_cast<size_t>(stacks_[stack].closure)];
    }
    const Rules & rules = compiled_->rules;
    std::vector<uint32_t> found;
    std::vector<uint32_t> todo{stack};
    ++round_;
    while (!todo.empty()) {
        const uint32_t top = todo.back();
        todo.pop_back();
        work(4);
        if (seen_[top] == round_) {
            continue;
        }
        seen_[top] = round_;
        const Symbol symbol = top == 0 ? Symbol{Symbol::kEnd, 0} : rules.symbols[stacks_[top].symbol];
        if (symbol.kind != Symbol::kRule) {
            found.push_back(top);
            if (found.size() > kMaxStacks) {
                throw GrammarTooCostly("the grammar can be read in too many ways at once");
            }
            continue;
        }
        const uint32_t rest = behind(top);
        uint32_t at = rules.starts[symbol.value];
        while (true) {
            todo.push_back(ends_alternative(rules.symbols[at]) ? rest : stack_of(at, rest));
            while (!ends_alternative(rules.symbols[at])) {
                ++at;
            }
            work(4);
            if (rules.symbols[at].kind == Symbol::kEnd) {
                break;
            }
            ++at;
        }
    }
    stacks_[stack].closure = static_cast<int32_t>(closures_.size());
    bytes_ += found.size() * 4 + sizeof found;
    closures_.push_back(std::move(found));
    return closures_.back();
}

void Automaton::extend(uint32_t stack, std::vector<uint32_t> & stacks) {
    const std::vector<uint32_t> & more = closure(stack);
    work(more.size());
    stacks.insert(stacks.end(), more.begin(), more.end());
}

int32_t Automaton::state_of(std::vector<uint32_t> stacks) {
    if (stacks.empty()) {
        return kDead;
    }
    work(stacks.size() * 4);
    std::sort(stacks.begin(), stacks.end());
    stacks.erase(std::unique(stacks.begin(), stacks.end()), stacks.end());
    if (stacks.size() > kMaxStacks) {
        throw GrammarTooCostly("the grammar can be read in too many ways at once");
    }
    const uint64_t hash = hash_of(stacks);
    const auto [first, last] = state_ids_.equal_range(hash);
    for (auto i = first; i != last; ++i) {
        if (states_[static_cast<size_t>(i->second)].stacks == stacks) {
            return i->second;
        }
    }
    work(n_classes_ / 4);
    const auto id = static_cast<int32_t>(states_.size());
    const auto & symbols = compiled_->rules.symbols;
    const bool tokens = std::any_of(stacks.begin(), stacks.end(),
                                    [&](uint32_t s) { return s != 0 && is_token(symbols[stacks_[s].symbol]); });
    bytes_ += stacks.size() * 4 + n_classes_ * 4 + sizeof(State) + 48;
    const bool may_end_here = stacks.front() == 0;
    states_.push_back({std::move(stacks), may_end_here, tokens});
    state_ids_.emplace(hash, id);
    ways_.resize(ways_.size() + n_classes_, kUnknown);
    return id;
}

int32_t Automaton::start() {
    const Rules & rules = compiled_->rules;
    std::vector<uint32_t> stacks;
    for (uint32_t at = rules.starts[rules.root];; ++at) {
        extend(ends_alternative(rules.symbols[at]) ? 0 : stack_of(at, 0), stacks);
        while (!ends_alternative(rules.symbols[at])) {
            ++at;
        }
        if (rules.symbols[at].kind == Symbol::kEnd) {
            break;
        }
    }
    return state_of(std::move(stacks));
}

int32_t Automaton::make_way(int32_t state, uint32_t cls) {
    const CharacterClasses & classes = compiled_->classes;
    std::vector<uint32_t> stacks;
    const std::vector<uint32_t> from = states_[static_cast<size_t>(state)].stacks;  // states_ may move below
    work(from.size());
    for (const uint32_t stack : from) {
        if (stack == 0) {
            continue;
        }
        const Symbol symbol = compiled_->rules.symbols[stacks_[stack].symbol];
        if (symbol.kind == Symbol::kCharacters && classes.contains(symbol.value, cls)) {
            extend(behind(stack), stacks);
        }
    }
    const int32_t to = state_of(std::move(stacks));
    ways_[static_cast<size_t>(state) * n_classes_ + cls] = to;
    return to;
}

// A token without any text (the NUL byte, unused entries) is never "any token but that".
bool Automaton::stands_for(const Symbol & symbol, int32_t token) const {
    const bool same = symbol.value == static_cast<uint32_t>(token);
    return symbol.kind == Symbol::kToken ? same : !same && !compiled_->vocabulary->full_text(token).empty();
}

int32_t Automaton::next_by_token(int32_t state, int32_t token) {
    if (!states_[static_cast<size_t>(state)].has_tokens) {
        return kDead;
    }
    std::vector<uint32_t> stacks;
    const std::vector<uint32_t> from = states_[static_cast<size_t>(state)].stacks;
    work(from.size());
    for (const uint32_t stack : from) {
        const Symbol symbol = stack == 0 ? Symbol{Symbol::kEnd, 0} : compiled_->rules.symbols[stacks_[stack].symbol];
        if (is_token(symbol) && stands_for(symbol, token)) {
            extend(behind(stack), stacks);
        }
    }
    return state_of(std::move(stacks));
}

int32_t Automaton::united(int32_t a, int32_t b) {
    if (a == kDead || b == kDead || a == b) {
        return std::max(a, b);
    }
    std::vector<uint32_t> stacks = states_[static_cast<size_t>(a)].stacks;
    const std::vector<uint32_t> & more = states_[static_cast<size_t>(b)].stacks;
    stacks.insert(stacks.end(), more.begin(), more.end());
    return state_of(std::move(stacks));
}

int32_t Automaton::after_bytes(int32_t state, Utf8 & character, const std::string & bytes) {
    for (const char byte : bytes) {
        if (!character.push(static_cast<unsigned char>(byte))) {
            return kDead;
        }
        if (character.remain == 0 && (state = next(state, compiled_->classes.of(character.value))) == kDead) {
            return kDead;
        }
    }
    return character.remain == 0 || may_become(state, character) ? state : kDead;
}

// Whether any of the characters that an unfinished one can still become may follow.
bool Automaton::may_become(int32_t state, const Utf8 & character) {
    const std::vector<uint32_t> classes = compiled_->classes.between(character.low(), character.high());
    work(classes.size() / 8);  // most lead a way that is known
    for (const uint32_t cls : classes) {
        if (next(state, cls) != kDead) {
            return true;
        }
    }
    return false;
}

bool Automaton::fits(int32_t state, const std::string & text) {
    Utf8 character;
    return after_bytes(state, character, text) != kDead;
}

const std::vector<uint64_t> & Automaton::mask(int32_t state) {
    const auto known = masks_.find(state);
    if (known != masks_.end()) {
        return known->second;
    }
    const Vocabulary & vocabulary = *compiled_->vocabulary;
    std::vector<uint64_t> bits((static_cast<size_t>(vocabulary.size()) + 63) / 64, 0);
    mark_tree(state, bits);
    for (const int32_t token : vocabulary.broken()) {
        if (fits(state, vocabulary.text(token))) {
            set_bit(bits, token);
        }
    }
    for (const auto & [token, text] : compiled_->preserved) {
        if (fits(state, text)) {
            set_bit(bits, token);
        }
    }
    if (states_[static_cast<size_t>(state)].has_tokens) {
        mark_tokens(state, bits);
    }
    for (const int32_t token : vocabulary.end_tokens()) {
        bits[static_cast<size_t>(token) / 64] &= ~(uint64_t{1} << (token % 64));
        if (may_end(state)) {
            set_bit(bits, token);
        }
    }
    if (mask_bytes_ > kMaxMaskBytes) {
        masks_.clear();
        mask_bytes_ = 0;
    }
    mask_bytes_ += bits.size() * 8;
    return masks_.emplace(state, std::move(bits)).first->second;
}

// All texts of whole characters at once: what begins the same way is looked at once, and nothing behind a dead end.
void Automaton::mark_tree(int32_t state, std::vector<uint64_t> & bits) {
    const Vocabulary & vocabulary = *compiled_->vocabulary;
    const std::vector<Vocabulary::Node> & tree = vocabulary.tree();
    const CharacterClasses & classes = compiled_->classes;
    int32_t path[Vocabulary::kMaxDepth + 1];
    path[0] = state;
    for (size_t i = 0; i < tree.size();) {
        const Vocabulary::Node & node = tree[i];
        const int32_t to = next(path[node.depth - 1], classes.of_index(node.character));
        if (to == kDead) {
            i = node.after;
            continue;
        }
        path[node.depth] = to;
        for (uint32_t t = node.first_token; t < node.first_token + node.n_tokens; ++t) {
            set_bit(bits, vocabulary.in_tree()[t]);
        }
        ++i;
    }
}

// Once over the vocabulary at most: two exceptions that differ leave no token out.
void Automaton::mark_tokens(int32_t state, std::vector<uint64_t> & bits) {
    const std::vector<uint32_t> & stacks = states_[static_cast<size_t>(state)].stacks;
    work(stacks.size());
    bool inverted = false;
    Symbol exception{Symbol::kNotToken, 0};
    for (const uint32_t stack : stacks) {
        const Symbol symbol = stack == 0 ? Symbol{Symbol::kEnd, 0} : compiled_->rules.symbols[stacks_[stack].symbol];
        if (symbol.kind == Symbol::kToken) {
            set_bit(bits, static_cast<int32_t>(symbol.value));
        } else if (symbol.kind == Symbol::kNotToken) {
            exception.value = inverted && exception.value != symbol.value ? kNoToken : symbol.value;
            inverted = true;
        }
    }
    if (!inverted) {
        return;
    }
    const int32_t n_vocab = compiled_->vocabulary->size();
    work(static_cast<size_t>(n_vocab));
    for (int32_t token = 0; token < n_vocab; ++token) {
        if (stands_for(exception, token)) {
            set_bit(bits, token);
        }
    }
}

int32_t Automaton::moved_to(Automaton & other, int32_t state) const {
    if (state == kDead) {
        return kDead;
    }
    std::unordered_map<uint32_t, uint32_t> moved{{0, 0}};
    std::vector<uint32_t> stacks;
    for (const uint32_t stack : states_[static_cast<size_t>(state)].stacks) {
        std::vector<uint32_t> path;
        for (uint32_t s = stack; moved.find(s) == moved.end(); s = stacks_[s].below) {
            path.push_back(s);
        }
        for (; !path.empty(); path.pop_back()) {
            const Stack & s = stacks_[path.back()];
            moved[path.back()] = other.stack_of(s.symbol, moved.at(s.below));
        }
        stacks.push_back(moved.at(stack));
    }
    return other.state_of(std::move(stacks));
}

}  // namespace shimmy
