// Reading the text of a grammar: characters, names and numbers, and where in it something is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace shimmy {

class GbnfReader {
  public:
    // `text` must outlive the reader. Throws shimmy::Error where it is too long, empty, no UTF-8, or holds a NUL byte.
    explicit GbnfReader(const std::string & text);

    // Throws shimmy::Error (E_INVALID, param "grammar") with the line and column of byte `at`.
    [[noreturn]] void fail(size_t at, const std::string & message) const;

    size_t at() const { return at_; }
    bool done() const { return at_ >= text_.size(); }
    char peek(size_t offset = 0) const { return at_ + offset < text_.size() ? text_[at_ + offset] : '\0'; }
    void skip(size_t n) { at_ += n; }
    bool skip_if(const std::string & what);

    // Blanks and comments; line ends only inside of brackets and between rules.
    void skip_space(bool newlines);

    std::string take_name();              // "" where there is none
    uint64_t take_number();               // at most kMaxSymbols + 1
    uint32_t take_character();            // of a literal or a class, escapes read
    std::string take_until(char last);    // with it; "" where it does not come

    static bool is_digit(char c) { return c >= '0' && c <= '9'; }
    static bool is_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || is_digit(c); }

  private:
    uint32_t take_hex(size_t start, size_t n);

    const std::string & text_;
    size_t at_ = 0;
};

}  // namespace shimmy
