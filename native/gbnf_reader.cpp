#include "gbnf_reader.h"

#include "error.h"
#include "gbnf.h"
#include "utf8.h"

#include <algorithm>

namespace shimmy {

GbnfReader::GbnfReader(const std::string & text) : text_(text) {
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

void GbnfReader::fail(size_t at, const std::string & message) const {
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i < std::min(at, text_.size()); ++i) {
        const auto byte = static_cast<unsigned char>(text_[i]);
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

bool GbnfReader::skip_if(const std::string & what) {
    const bool found = text_.compare(at_, what.size(), what) == 0;
    at_ += found ? what.size() : 0;
    return found;
}

void GbnfReader::skip_space(bool newlines) {
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

std::string GbnfReader::take_name() {
    const size_t start = at_;
    while (is_name(peek())) {
        ++at_;
    }
    return text_.substr(start, at_ - start);
}

uint64_t GbnfReader::take_number() {
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

uint32_t GbnfReader::take_character() {
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

uint32_t GbnfReader::take_hex(size_t start, size_t n) {
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

std::string GbnfReader::take_until(char last) {
    const size_t end = text_.find(last, at_);
    if (end == std::string::npos) {
        return "";
    }
    const size_t start = at_;
    at_ = end + 1;
    return text_.substr(start, at_ - start);
}

}  // namespace shimmy
