// UTF-8, byte by byte.
#pragma once

#include <cstdint>
#include <string>

namespace shimmy {

inline bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// A character of which bytes are still to come. `remain` 0: none is begun.
struct Utf8 {
    uint32_t value = 0;
    uint32_t remain = 0;
    uint32_t least = 0;  // the smallest character that may be written with this many bytes

    // Takes one byte; false where no character can be written so. `value` is a whole character when `remain` is 0 afterwards.
    bool push(unsigned char byte) {
        if (remain > 0) {
            value = (value << 6) | (byte & 0x3F);
            --remain;
            const bool surrogate = (value << 6 * remain) >> 11 == 0xD800 >> 11 && remain < 2;
            return is_continuation(byte) && high() >= least && (value << 6 * remain) <= 0x10FFFF && !surrogate;
        }
        remain = byte < 0x80 ? 0 : byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
        value = remain == 0 ? byte : byte & (0x3Fu >> remain);
        least = remain == 1 ? 0x80 : remain == 2 ? 0x800 : remain == 3 ? 0x10000 : 0;
        return byte < 0x80 || (byte >= 0xC2 && byte < 0xF5);
    }

    // The characters that the bytes to come can still make of it.
    uint32_t low() const {
        const uint32_t first = value << (6 * remain);
        return first < least ? least : first;
    }
    uint32_t high() const { return (value << (6 * remain)) | ((1u << (6 * remain)) - 1); }
};

// Where the text stops being UTF-8; npos where it is.
inline size_t first_invalid_utf8(const std::string & text) {
    Utf8 state;
    size_t start = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        if (state.remain == 0) {
            start = i;
        }
        if (!state.push(static_cast<unsigned char>(text[i]))) {
            return start;
        }
    }
    return state.remain == 0 ? std::string::npos : start;
}

// The character at `at` of valid UTF-8, and `at` behind it.
inline uint32_t take_utf8(const std::string & text, size_t & at) {
    Utf8 state;
    do {
        state.push(static_cast<unsigned char>(text[at++]));
    } while (state.remain > 0 && at < text.size());
    return state.value;
}

}  // namespace shimmy
