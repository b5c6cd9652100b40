#include "template_nesting.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>

namespace shimmy {

namespace {

constexpr size_t max_nesting = 2000;  // less than 2 MB of stack
constexpr size_t level_weight = 4;    // of a bracket or a block, through which the parser goes in a dozen calls; of a token: 1

// Counts what may lie around the current token: each open block or bracket, and all tokens since its last comma, which may be
// a chain: a + b + c is parsed to ((a + b) + c).
class Nesting {
  public:
    void open() {
        levels_.push_back(0);
        add(level_weight);
    }

    void add(size_t n) {
        levels_.back() += n;
        total_ += n;
        if (total_ > max_nesting) {
            throw std::runtime_error("the template is nested too deep");
        }
    }

    void close() {
        if (levels_.size() > 1) {
            total_ -= levels_.back();
            levels_.pop_back();
        }
    }

    void comma() {
        total_ -= levels_.back() - level_weight;
        levels_.back() = level_weight;
    }

    size_t depth() const { return levels_.size(); }

  private:
    std::vector<size_t> levels_{0};
    size_t total_ = 0;
};

// The tag from tokens[at], its opening, to its close, or to the end.
size_t end_of_tag(const std::vector<jinja::token> & tokens, size_t at) {
    const auto closes = [](const jinja::token & token) {
        return token.t == jinja::token::close_statement || token.t == jinja::token::close_expression;
    };
    return static_cast<size_t>(std::find_if(tokens.begin() + static_cast<std::ptrdiff_t>(at), tokens.end(), closes) - tokens.begin());
}

// Goes through a tag's tokens. Whether it has a = outside of its brackets.
bool read_tag(const std::vector<jinja::token> & tokens, size_t begin, size_t end, Nesting & nesting) {
    bool assigns = false;
    const size_t outside = nesting.depth();
    nesting.open();
    const size_t inside = nesting.depth();
    for (size_t i = begin; i < end; ++i) {
        switch (tokens[i].t) {
            case jinja::token::open_paren:
            case jinja::token::open_square_bracket:
            case jinja::token::open_curly_bracket:
                nesting.open();
                break;
            case jinja::token::close_paren:
            case jinja::token::close_square_bracket:
            case jinja::token::close_curly_bracket:
                if (nesting.depth() > inside) {
                    nesting.close();
                }
                nesting.add(1);
                break;
            case jinja::token::comma:
                nesting.comma();
                break;
            default:
                assigns = assigns || (tokens[i].t == jinja::token::equals && nesting.depth() == inside);
                nesting.add(1);
        }
    }
    while (nesting.depth() > outside) {
        nesting.close();
    }
    return assigns;
}

// What a statement opens or closes.
void follow_block(const std::string & name, bool assigns, Nesting & nesting) {
    static const std::array<std::string, 5> blocks{"if", "for", "macro", "call", "filter"};
    if (std::find(blocks.begin(), blocks.end(), name) != blocks.end() || (name == "set" && !assigns)) {
        nesting.open();
    } else if (name == "elif") {  // an if in the else of the last one
        nesting.add(level_weight);
    } else if (name.compare(0, 3, "end") == 0 && name != "endgeneration") {
        nesting.close();
    }
}

}  // namespace

void check_nesting(const std::vector<jinja::token> & tokens) {
    Nesting nesting;
    for (size_t at = 0; at < tokens.size(); ++at) {
        const bool statement = tokens[at].t == jinja::token::open_statement;
        if (!statement && tokens[at].t != jinja::token::open_expression) {
            continue;
        }
        const size_t end = end_of_tag(tokens, at);
        const bool assigns = read_tag(tokens, at + 1, end, nesting);
        if (statement && at + 1 < end) {
            follow_block(tokens[at + 1].value, assigns, nesting);
        }
        at = end;
    }
}

}  // namespace shimmy
