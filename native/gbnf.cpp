#include "gbnf.h"

#include "error.h"
#include "recursion.h"
#include "utf8.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace shimmy {

namespace {

constexpr uint64_t kUnbounded = UINT64_MAX;

[[noreturn]] void fail_at(const std::string & text, size_t at, const std::string & message) {
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i < std::min(at, text.size()); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte == '\n') {
            ++line;
            column = 1;
        } else if (!is_continuation(byte)) {
            ++column;
        }
    }
    throw Error(SHIMMY_E_INVALID,
                "grammar line " + std::to_string(line) + ", column " + std::to_string(column) + ": " + message, "grammar");
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || is_digit(c); }

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
        : text_(text), n_vocab_(n_vocab), find_token_(find_token) {}

    Rules parse(const std::string & root) {
        check_text();
        skip_space(true);
        while (at_ < text_.size()) {
            parse_rule();
        }
        const auto found = ids_.find(root);
        if (found == ids_.end() || rules_[found->second].empty()) {
            throw Error(SHIMMY_E_INVALID, "grammar: there is no rule '" + root + "': the text begins with it", "grammar");
        }
        for (const auto & [name, id] : ids_) {
            if (rules_[id].empty()) {
                fail(first_use_[id], "rule '" + name + "' is not defined");
            }
        }
        return joined(found->second);
    }

  private:
    using Rule = std::vector<Symbol>;

    [[noreturn]] void fail(size_t at, const std::string & message) const { fail_at(text_, at, message); }

    char peek(size_t offset = 0) const { return at_ + offset < text_.size() ? text_[at_ + offset] : '\0'; }

    void check_text() const {
        if (text_.size() > kMaxGrammarBytes) {
            throw Error(SHIMMY_E_INVALID, "grammar has " + std::to_string(text_.size()) + " bytes: 1,048,576 are allowed",
                        "grammar");
        }
        if (const size_t nul = text_.find('\0'); nul != std::string::npos) {
            fail(nul, "a NUL byte is no part of a grammar");
        }
        if (const size_t bad = first_invalid_utf8(text_); bad != std::string::npos) {
            fail(bad, "the text is not UTF-8");
        }
        if (text_.find_first_not_of(" \t\r\n") == std::string::npos) {
            throw Error(SHIMMY_E_INVALID, "grammar is empty", "grammar");
        }
    }

    // Blanks and comments; line ends only inside of brackets and between rules.
    void skip_space(bool newlines) {
        while (at_ < text_.size()) {
            const char c = text_[at_];
            if (c == '#') {
                at_ = std::min(text_.find_first_of("\r\n", at_), text_.size());
            } else if (c == ' ' || c == '\t' || (newlines && (c == '\r' || c == '\n'))) {
                ++at_;
            } else {
                break;
            }
        }
    }

    std::string take_name() {
        const size_t start = at_;
        while (is_name(peek())) {
            ++at_;
        }
        return text_.substr(start, at_ - start);
    }

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
            fail(at, "the grammar is too large: repetitions written out, it may have 500,000 symbols");
        }
    }

    void push(Rule & rule, Symbol::Kind kind, uint32_t value) {
        charge(1, at_);
        rule.push_back({kind, value});
    }

    void parse_rule() {
        const size_t start = at_;
        const std::string name = take_name();
        if (name.empty()) {
            fail(at_, "expected a rule's name (letters, digits and '-')");
        }
        skip_space(false);
        const uint32_t id = rule_of(name, start);
        if (text_.compare(at_, 3, "::=") != 0) {
            fail(at_, "expected '::=' after the rule's name");
        }
        at_ += 3;
        skip_space(true);
        rules_[id] = parse_alternatives(false);
        if (at_ < text_.size() && peek() != '\n' && peek() != '\r') {
            fail(at_, peek() == ')' ? "')' without a '('" : "expected a literal, a class, a rule's name or the end of the line");
        }
        skip_space(true);
    }

    Rule parse_alternatives(bool nested) {
        Rule rule;
        parse_sequence(rule, nested);
        while (peek() == '|') {
            push(rule, Symbol::kOr, 0);
            ++at_;
            skip_space(true);
            parse_sequence(rule, nested);
        }
        push(rule, Symbol::kEnd, 0);
        return rule;
    }

    void parse_sequence(Rule & rule, bool nested) {
        size_t item = rule.size();  // where the item begins that a repetition is about
        while (at_ < text_.size()) {
            const char c = peek();
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
            } else if (is_name(c)) {
                const size_t used_at = at_;
                push(rule, Symbol::kRule, rule_of(take_name(), used_at));
            } else if (c == '(') {
                parse_group(rule);
            } else if (c == '.') {
                ++at_;
                push(rule, Symbol::kCharacters, set_of({{0, kLastCharacter}}));
            } else {
                return;
            }
            item = start;
            skip_space(nested);
        }
    }

    void parse_group(Rule & rule) {
        const size_t start = at_;
        if (++depth_ > kMaxNesting) {
            fail(start, "brackets nest deeper than " + std::to_string(kMaxNesting));
        }
        ++at_;
        skip_space(true);
        const uint32_t id = new_rule(start);
        Rule inner = parse_alternatives(true);
        rules_[id] = std::move(inner);
        if (peek() != ')') {
            if (at_ >= text_.size()) {
                fail(start, "the text ends inside of this '('");
            }
            fail(at_, "expected ')' or an item");
        }
        ++at_;
        --depth_;
        push(rule, Symbol::kRule, id);
    }

    void parse_literal(Rule & rule) {
        const size_t start = at_++;
        while (peek() != '"') {
            if (at_ >= text_.size()) {
                fail(start, "the text ends inside of this literal: expected '\"'");
            }
            const uint32_t c = take_character();
            push(rule, Symbol::kCharacters, set_of({{c, c}}));
        }
        ++at_;
    }

    void parse_class(Rule & rule) {
        const size_t start = at_++;
        const bool inverted = peek() == '^';
        at_ += inverted ? 1 : 0;
        CharacterSet ranges;
        while (peek() != ']') {
            if (at_ >= text_.size()) {
                fail(start, "the text ends inside of this class: expected ']'");
            }
            const size_t first_at = at_;
            const uint32_t first = take_character();
            uint32_t last = first;
            if (peek() == '-' && peek(1) != ']' && at_ + 1 < text_.size()) {
                ++at_;
                last = take_character();
            }
            if (last < first) {
                fail(first_at, "the range ends before it begins");
            }
            charge(1, first_at);
            ranges.emplace_back(first, last);
        }
        ++at_;
        ranges = normalized(std::move(ranges), inverted);
        if (ranges.empty()) {
            fail(start, "no character is in this class");
        }
        push(rule, Symbol::kCharacters, set_of(ranges));
    }

    uint32_t take_character() {
        const size_t start = at_;
        if (peek() != '\\') {
            return take_utf8(text_, at_);
        }
        const char c = peek(1);
        at_ = std::min(at_ + 2, text_.size());
        switch (c) {
            case 'x': return take_hex(start, 2);
            case 'u': return take_hex(start, 4);
            case 'U': return take_hex(start, 8);
            case 't': return '\t';
            case 'r': return '\r';
            case 'n': return '\n';
            case '\\': case '"': case '[': case ']': case '-': return static_cast<uint32_t>(c);
            default: fail(start, R"(unknown escape: expected \n \r \t \\ \" \[ \] \- \xHH \uHHHH or \UHHHHHHHH)");
        }
    }

    uint32_t take_hex(size_t start, size_t n) {
        uint64_t value = 0;
        for (size_t i = 0; i < n; ++i, ++at_) {
            const char c = peek();
            const int digit = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
            if (digit < 0) {
                fail(at_, "expected " + std::to_string(n) + " hexadecimal digits");
            }
            value = value * 16 + static_cast<uint64_t>(digit);
        }
        if (value > kLastCharacter) {
            fail(start, "there is no such character: the last one is \\U0010FFFF");
        }
        return static_cast<uint32_t>(value);
    }

    // <[1000]>, <name> and their negations !<...>: one token, whatever its text.
    void parse_token(Rule & rule) {
        const size_t start = at_;
        const Symbol::Kind kind = peek() == '!' ? Symbol::kNotToken : Symbol::kToken;
        at_ += kind == Symbol::kNotToken ? 1 : 0;
        const size_t end = text_.find('>', at_);
        if (peek() != '<' || end == std::string::npos) {
            fail(start, "expected a token: <[id]> or <name>");
        }
        const std::string name = text_.substr(at_, end + 1 - at_);
        at_ = end + 1;
        int64_t token = -1;
        if (name.size() > 4 && name[1] == '[' && name[name.size() - 2] == ']') {
            const std::string digits = name.substr(2, name.size() - 4);
            if (digits.size() > 9 || !std::all_of(digits.begin(), digits.end(), is_digit) || std::stoll(digits) >= n_vocab_) {
                fail(start, "the token is outside the vocabulary of " + std::to_string(n_vocab_));
            }
            token = std::stoll(digits);
        } else if ((token = find_token_(name)) < 0) {
            fail(start, "this text is not one token of the model");
        }
        push(rule, kind, static_cast<uint32_t>(token));
    }

    uint64_t take_number() {
        const size_t start = at_;
        uint64_t value = 0;
        while (is_digit(peek())) {
            value = std::min<uint64_t>(value * 10 + static_cast<uint64_t>(peek() - '0'), kMaxSymbols + 1);
            ++at_;
        }
        if (at_ == start) {
            fail(at_, "expected a number");
        }
        return value;
    }

    void parse_repetition(Rule & rule, size_t item, bool nested) {
        const size_t start = at_;
        if (item == rule.size()) {
            fail(start, "there is nothing before this repetition that could be repeated");
        }
        const char c = text_[at_++];
        uint64_t low = c == '+' ? 1 : 0;
        uint64_t high = c == '?' ? 1 : kUnbounded;
        if (c == '{') {
            skip_space(nested);
            low = high = take_number();
            skip_space(nested);
            if (peek() == ',') {
                ++at_;
                skip_space(nested);
                high = is_digit(peek()) ? take_number() : kUnbounded;
                skip_space(nested);
            }
            if (peek() != '}') {
                fail(at_, "expected ',' or '}'");
            }
            ++at_;
            if (high < low) {
                fail(start, "the repetition's most is below its least");
            }
        }
        skip_space(nested);
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
            fail(at, "left recursion: what begins here begins with itself; write the recursion at the end");
        }
        return out;
    }

    const std::string & text_;
    int32_t n_vocab_;
    const FindToken & find_token_;
    size_t at_ = 0;
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
