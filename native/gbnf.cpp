#include "gbnf.h"

#include "error.h"
#include "gbnf_reader.h"
#include "recursion.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace shimmy {

namespace {

constexpr uint64_t kUnbounded = UINT64_MAX;

// Sorted, merged, and turned into what it leaves out where `inverted`.
CharacterSet normalized(CharacterSet ranges, bool inverted) {
    std::sort(ranges.begin(), ranges.end());
    CharacterSet merged;
    for (const auto & range : ranges) {
        if (!merged.empty() && range.first <= merged.back().second + 1) {
            merged.back().second = std::max(merged.back().second, range.second);
        } else {
            merged.push_back(range);
        }
    }
    if (!inverted) {
        return merged;
    }
    CharacterSet rest;
    uint32_t next = 0;
    for (const auto & range : merged) {
        if (range.first > next) {
            rest.emplace_back(next, range.first - 1);
        }
        next = range.second + 1;
    }
    if (next <= kLastCharacter) {
        rest.emplace_back(next, kLastCharacter);
    }
    return rest;
}

class Parser {
  public:
    Parser(const std::string & text, int32_t n_vocab, const FindToken & find_token)
        : in_(text), n_vocab_(n_vocab), find_token_(find_token) {}

    Rules parse(const std::string & root) {
        in_.skip_space(true);
        while (!in_.done()) {
            parse_rule();
        }
        const auto found = ids_.find(root);
        if (found == ids_.end() || rules_[found->second].empty()) {
            throw Error(SHIMMY_E_INVALID, "grammar: there is no rule '" + root + "': the text begins with it", "grammar");
        }
        for (const auto & [name, id] : ids_) {
            if (rules_[id].empty()) {
                in_.fail(first_use_[id], "rule '" + name + "' is not defined");
            }
        }
        return joined(found->second);
    }

  private:
    using Rule = std::vector<Symbol>;

    uint32_t new_rule(size_t used_at) {
        rules_.emplace_back();
        first_use_.push_back(used_at);
        charge(1, used_at);
        return static_cast<uint32_t>(rules_.size() - 1);
    }

    uint32_t rule_of(const std::string & name, size_t used_at) {
        const auto found = ids_.find(name);
        return found != ids_.end() ? found->second : ids_[name] = new_rule(used_at);
    }

    void charge(uint64_t n, size_t at) {
        n_symbols_ += n;
        if (n_symbols_ > kMaxSymbols) {
            in_.fail(at, "the grammar is too large: repetitions written out, it may have 500,000 symbols");
        }
    }

    void push(Rule & rule, Symbol::Kind kind, uint32_t value) {
        charge(1, in_.at());
        rule.push_back({kind, value});
    }

    void parse_rule() {
        const size_t start = in_.at();
        const std::string name = in_.take_name();
        if (name.empty()) {
            in_.fail(in_.at(), "expected a rule's name (letters, digits and '-')");
        }
        in_.skip_space(false);
        const uint32_t id = rule_of(name, start);
        if (!in_.skip_if("::=")) {
            in_.fail(in_.at(), "expected '::=' after the rule's name");
        }
        in_.skip_space(true);
        rules_[id] = parse_alternatives(false);
        if (!in_.done() && in_.peek() != '\n' && in_.peek() != '\r') {
            in_.fail(in_.at(), in_.peek() == ')' ? "')' without a '('" : "expected a literal, a class, a rule's name or the end of the line");
        }
        in_.skip_space(true);
    }

    Rule parse_alternatives(bool nested) {
        Rule rule;
        parse_sequence(rule, nested);
        while (in_.peek() == '|') {
            push(rule, Symbol::kOr, 0);
            in_.skip(1);
            in_.skip_space(true);
            parse_sequence(rule, nested);
        }
        push(rule, Symbol::kEnd, 0);
        return rule;
    }

    void parse_sequence(Rule & rule, bool nested) {
        size_t item = rule.size();  // where the item begins that a repetition is about
        while (!in_.done()) {
            const char c = in_.peek();
            if (c == '*' || c == '+' || c == '?' || c == '{') {
                parse_repetition(rule, item, nested);
                continue;
            }
            const size_t start = rule.size();
            if (c == '"') {
                parse_literal(rule);
            } else if (c == '[') {
                parse_class(rule);
            } else if (c == '<' || c == '!') {
                parse_token(rule);
            } else if (GbnfReader::is_name(c)) {
                const size_t used_at = in_.at();
                push(rule, Symbol::kRule, rule_of(in_.take_name(), used_at));
            } else if (c == '(') {
                parse_group(rule);
            } else if (c == '.') {
                in_.skip(1);
                push(rule, Symbol::kCharacters, set_of({{0, kLastCharacter}}));
            } else {
                return;
            }
            item = start;
            in_.skip_space(nested);
        }
    }

    void parse_group(Rule & rule) {
        const size_t start = in_.at();
        if (++depth_ > kMaxNesting) {
            in_.fail(start, "brackets nest deeper than " + std::to_string(kMaxNesting));
        }
        in_.skip(1);
        in_.skip_space(true);
        const uint32_t id = new_rule(start);
        Rule inner = parse_alternatives(true);
        rules_[id] = std::move(inner);
        if (in_.peek() != ')') {
            if (in_.done()) {
                in_.fail(start, "the text ends inside of this '('");
            }
            in_.fail(in_.at(), "expected ')' or an item");
        }
        in_.skip(1);
        --depth_;
        push(rule, Symbol::kRule, id);
    }

    void parse_literal(Rule & rule) {
        const size_t start = in_.at();
        in_.skip(1);
        while (in_.peek() != '"') {
            if (in_.done()) {
                in_.fail(start, "the text ends inside of this literal: expected '\"'");
            }
            const uint32_t c = in_.take_character();
            push(rule, Symbol::kCharacters, set_of({{c, c}}));
        }
        in_.skip(1);
    }

    void parse_class(Rule & rule) {
        const size_t start = in_.at();
        in_.skip(1);
        const bool inverted = in_.peek() == '^';
        in_.skip(inverted ? 1 : 0);
        CharacterSet ranges;
        while (in_.peek() != ']') {
            if (in_.done()) {
                in_.fail(start, "the text ends inside of this class: expected ']'");
            }
            const size_t first_at = in_.at();
            const uint32_t first = in_.take_character();
            uint32_t last = first;
            if (in_.peek() == '-' && in_.peek(1) != ']' && in_.peek(1) != '\0') {
                in_.skip(1);
                last = in_.take_character();
            }
            if (last < first) {
                in_.fail(first_at, "the range ends before it begins");
            }
            charge(1, first_at);
            ranges.emplace_back(first, last);
        }
        in_.skip(1);
        ranges = normalized(std::move(ranges), inverted);
        if (ranges.empty()) {
            in_.fail(start, "no character is in this class");
        }
        push(rule, Symbol::kCharacters, set_of(ranges));
    }

    // <[1000]>, <name> and their negations !<...>: one token, whatever its text.
    void parse_token(Rule & rule) {
        const size_t start = in_.at();
        const Symbol::Kind kind = in_.peek() == '!' ? Symbol::kNotToken : Symbol::kToken;
        in_.skip(kind == Symbol::kNotToken ? 1 : 0);
        const std::string name = in_.peek() == '<' ? in_.take_until('>') : "";
        if (name.empty()) {
            in_.fail(start, "expected a token: <[id]> or <name>");
        }
        int64_t token = -1;
        if (name.size() > 4 && name[1] == '[' && name[name.size() - 2] == ']') {
            const std::string digits = name.substr(2, name.size() - 4);
            if (digits.size() > 9 || !std::all_of(digits.begin(), digits.end(), GbnfReader::is_digit) || std::stoll(digits) >= n_vocab_) {
                in_.fail(start, "the token is outside the vocabulary of " + std::to_string(n_vocab_));
            }
            token = std::stoll(digits);
        } else if ((token = find_token_(name)) < 0) {
            in_.fail(start, "this text is not one token of the model");
        }
        push(rule, kind, static_cast<uint32_t>(token));
    }

    void parse_repetition(Rule & rule, size_t item, bool nested) {
        const size_t start = in_.at();
        if (item == rule.size()) {
            in_.fail(start, "there is nothing before this repetition that could be repeated");
        }
        const char c = in_.peek();
        in_.skip(1);
        uint64_t low = c == '+' ? 1 : 0;
        uint64_t high = c == '?' ? 1 : kUnbounded;
        if (c == '{') {
            in_.skip_space(nested);
            low = high = in_.take_number();
            in_.skip_space(nested);
            if (in_.peek() == ',') {
                in_.skip(1);
                in_.skip_space(nested);
                high = GbnfReader::is_digit(in_.peek()) ? in_.take_number() : kUnbounded;
                in_.skip_space(nested);
            }
            if (in_.peek() != '}') {
                in_.fail(in_.at(), "expected ',' or '}'");
            }
            in_.skip(1);
            if (high < low) {
                in_.fail(start, "the repetition's most is below its least");
            }
        }
        in_.skip_space(nested);
        repeat(rule, item, low, high, start);
    }

    // As llama.cpp writes repetitions out: S{m,n} is S m times, then n - m rules R(i) ::= S R(i-1) |.
    void repeat(Rule & rule, size_t item, uint64_t low, uint64_t high, size_t at) {
        const Rule repeated(rule.begin() + static_cast<std::ptrdiff_t>(item), rule.end());
        const uint64_t n_optional = high == kUnbounded ? 1 : high - low;
        charge(low * repeated.size() + n_optional * (repeated.size() + 3), at);
        if (low == 0) {
            rule.resize(item);
        }
        for (uint64_t i = 1; i < low; ++i) {
            rule.insert(rule.end(), repeated.begin(), repeated.end());
        }
        uint32_t last = 0;
        for (uint64_t i = 0; i < n_optional; ++i) {
            const uint32_t id = new_rule(at);
            Rule optional = repeated;
            if (i > 0 || high == kUnbounded) {
                optional.push_back({Symbol::kRule, high == kUnbounded ? id : last});
            }
            optional.push_back({Symbol::kOr, 0});
            optional.push_back({Symbol::kEnd, 0});
            rules_[id] = std::move(optional);
            last = id;
        }
        if (n_optional > 0) {
            push(rule, Symbol::kRule, last);
        }
    }

    uint32_t set_of(const CharacterSet & set) {
        const auto [found, inserted] = set_ids_.emplace(set, static_cast<uint32_t>(sets_.size()));
        if (inserted) {
            sets_.push_back(set);
        }
        return found->second;
    }

    Rules joined(uint32_t root) {
        Rules out;
        out.root = root;
        for (const Rule & rule : rules_) {
            out.starts.push_back(static_cast<uint32_t>(out.symbols.size()));
            out.symbols.insert(out.symbols.end(), rule.begin(), rule.end());
        }
        out.sets = std::move(sets_);
        const int64_t recursive = find_left_recursion(out);
        if (recursive >= 0) {
            const size_t at = first_use_[static_cast<size_t>(recursive)];
            in_.fail(at, "left recursion: what begins here begins with itself; write the recursion at the end");
        }
        return out;
    }

    GbnfReader in_;
    int32_t n_vocab_;
    const FindToken & find_token_;
    int depth_ = 0;
    uint64_t n_symbols_ = 0;
    std::vector<Rule> rules_;
    std::vector<size_t> first_use_;
    std::unordered_map<std::string, uint32_t> ids_;
    std::map<CharacterSet, uint32_t> set_ids_;
    std::vector<CharacterSet> sets_;
};

}  // namespace

Rules parse_gbnf(const std::string & text, const std::string & root, int32_t n_vocab, const FindToken & find_token) {
    return Parser(text, n_vocab, find_token).parse(root);
}

}  // namespace shimmy
