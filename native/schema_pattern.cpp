#include "schema.h"

#include "error.h"
#include "json-schema-to-grammar.h"

#include <cctype>
#include <exception>

namespace shimmy {

namespace {

// What JSON lets stand in a string as itself, as the inside of a class that leaves it out.
const char * const kNotRaw = R"("\\\x00-\x1F\x7F)";

const char * const kRaw = R"([^"\\\x00-\x1F\x7F])";

std::string repeated_any() { return std::string(kRaw) + "*"; }

// What \d, \w and \s are as the inside of a class; NULL for other letters.
const char * shorthand(char letter) {
    switch (letter) {
        case 'd': return "0-9";
        case 'w': return "a-zA-Z0-9_";
        case 's': return " ";  // tabs and line ends have escapes in JSON, which a class cannot hold
        default: return nullptr;
    }
}

constexpr size_t kMaxPatternBytes = 2000;

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

class Rewriter {
  public:
    explicit Rewriter(const std::string & pattern) : in_(pattern) {}

    // Whether something was met that the converter knows no grammar for; it would print a warning for each.
    bool refused() const { return refused_; }

    std::string rewrite() {
        while (at_ < in_.size()) {
            const char c = in_[at_];
            refused_ |= c == '^' || c == '$' || (in_.compare(at_, 2, "(?") == 0 && in_.compare(at_, 3, "(?:") != 0);
            if (c == '\\' && at_ + 1 < in_.size()) {
                escape(in_[at_ + 1]);
                at_ += 2;
            } else if (c == '[') {
                character_class();
            } else {
                out_ += c == '.' ? kRaw : c == '"' ? R"((\\"))" : std::string(1, c);
                ++at_;
            }
        }
        return out_;
    }

  private:
    void escape(char c) {
        const char * const set = shorthand(c);
        const char * const other = shorthand(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
        if (set != nullptr) {
            out_ += std::string("[") + set + "]";
        } else if (other != nullptr) {
            out_ += std::string("[^") + other + kNotRaw + "]";
        } else if (c == 'n' || c == 't' || c == 'r' || c == 'f') {
            out_ += std::string(R"((\\)") + c + ")";  // as JSON writes it
        } else if (c == '\\' || c == '"') {
            out_ += c == '"' ? R"((\\"))" : R"((\\\\))";
        } else if (is_word(c) && c != 'x' && c != 'u') {
            refused_ = true;  // \b, \1, \p{L}
        } else if (is_word(c) || std::string("^$.[]()|{}*+?-").find(c) != std::string::npos) {
            out_ += std::string("\\") + c;
        } else {
            out_ += c;  // \/ and the like
        }
    }

    // [...]: what JSON escapes cannot be in the class, and becomes an alternative beside it.
    void character_class() {
        const size_t start = at_++;
        const bool inverted = at_ < in_.size() && in_[at_] == '^';
        at_ += inverted ? 1 : 0;
        std::string inside;
        std::string beside;
        while (at_ < in_.size() && in_[at_] != ']') {
            const char c = in_[at_++];
            if (c == '"') {
                beside += R"(|\\")";
            } else if (c != '\\' || at_ >= in_.size()) {
                inside += c == '[' ? "\\[" : std::string(1, c);
            } else {
                escape_in_class(in_[at_++], inside, beside);
            }
        }
        if (at_ >= in_.size()) {
            out_ += in_.substr(start);  // the converter says what is wrong
            return;
        }
        ++at_;
        if (inverted) {
            out_ += "[^" + inside + kNotRaw + "]";
        } else if (beside.empty()) {
            out_ += "[" + inside + "]";
        } else {
            out_ += "(" + (inside.empty() ? beside.substr(1) : "[" + inside + "]" + beside) + ")";
        }
    }

    static void escape_in_class(char c, std::string & inside, std::string & beside) {
        const char * const set = shorthand(c);
        if (set != nullptr) {
            inside += set;
        } else if (c == 'n' || c == 't' || c == 'r' || c == 'f') {
            beside += std::string(R"(|\\)") + c;
        } else if (c == '\\' || c == '"') {
            beside += c == '"' ? R"(|\\")" : R"(|\\\\)";
        } else if (c == '^') {
            inside += R"(\x5E)";
        } else if (is_word(c) || c == ']' || c == '[' || c == '-') {
            inside += std::string("\\") + c;
        } else {
            inside += c;
        }
    }

    const std::string & in_;
    size_t at_ = 0;
    std::string out_;
    bool refused_ = false;
};

bool ends_anchored(const std::string & pattern) {
    if (pattern.empty() || pattern.back() != '$') {
        return false;
    }
    size_t n_escapes = 0;
    while (n_escapes + 1 < pattern.size() && pattern[pattern.size() - 2 - n_escapes] == '\\') {
        ++n_escapes;
    }
    return n_escapes % 2 == 0;
}

// The converter throws on what is no regular expression, and makes "any string" of what it does not understand.
bool is_understood(const std::string & pattern) {
    const common_json schema = {{"type", "string"}, {"pattern", pattern}};
    try {
        return json_schema_to_grammar(schema, true).find("root ::= string\n") == std::string::npos;
    } catch (const std::exception &) {
        return false;
    }
}

}  // namespace

std::string pattern_in_json(const std::string & pattern) {
    const bool starts = !pattern.empty() && pattern.front() == '^';
    const bool ends = ends_anchored(pattern);
    std::string middle = pattern.substr(starts ? 1 : 0);
    if (ends) {
        middle.pop_back();
    }
    Rewriter rewriter(middle);
    middle = rewriter.rewrite();
    if (rewriter.refused() || !is_understood("^" + middle + "$")) {
        return "";
    }
    if (!starts || !ends) {
        middle = (starts ? "" : repeated_any()) + (middle.empty() ? "" : "(" + middle + ")") + (ends ? "" : repeated_any());
    }
    return "^" + middle + "$";
}

void rewrite_patterns(common_json & schema) {
    if (schema.is_array()) {
        for (common_json & entry : schema) {
            rewrite_patterns(entry);
        }
    }
    if (!schema.is_object()) {
        return;
    }
    for (const auto & [key, value] : schema.items()) {
        if ((key == "properties" || key == "$defs" || key == "definitions") && value.is_object()) {
            for (const auto & [name, named] : value.items()) {  // names, whatever keyword they look like
                rewrite_patterns(named);
            }
        } else if (key == "pattern" && value.is_string()) {
            const std::string pattern = value.get<std::string>();
            const std::string rewritten = pattern.size() <= kMaxPatternBytes ? pattern_in_json(pattern) : "";
            if (rewritten.empty()) {
                throw Error(SHIMMY_E_INVALID,
                            "json_schema: no grammar can be made of the pattern '" + pattern.substr(0, 100) +
                                "': use literals, classes, groups, | and repetitions only",
                            "json_schema");
            }
            value = rewritten;
        } else if (key != "const" && key != "enum" && key != "default" && key != "examples") {
            rewrite_patterns(value);
        }
    }
}

}  // namespace shimmy
