#include "stream.h"

#include "error.h"

namespace shimmy {

namespace {

void put_big_endian(std::string & out, uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; --i) {
        out.push_back(static_cast<char>(value >> (8 * i)));
    }
}

// msgpack's forms (https://github.com/msgpack/msgpack/blob/master/spec.md), the shortest that holds the value.
void put_array(std::string & out, size_t n) {
    if (n < 16) {
        out.push_back(static_cast<char>(0x90 | n));
    } else {
        out.push_back(static_cast<char>(0xdc));
        put_big_endian(out, n, 2);
    }
}

void put_int(std::string & out, int64_t value) {
    if (value >= 0 && value < 128) {
        out.push_back(static_cast<char>(value));
    } else {
        out.push_back(static_cast<char>(0xd3));
        put_big_endian(out, static_cast<uint64_t>(value), 8);
    }
}

void put_text(std::string & out, const char * text, size_t size) {
    if (size < 32) {
        out.push_back(static_cast<char>(0xa0 | size));
    } else {
        out.push_back(static_cast<char>(0xda));
        put_big_endian(out, size, 2);
    }
    out.append(text, size);
}

}  // namespace

void Stream::begin(const shimmy_stream_run * runs, int32_t n_runs) {
    require(n_runs >= 1 && n_runs <= 0xffff && runs != nullptr, "a stream needs runs");
    for (int32_t r = 0; r < n_runs; ++r) {
        require(runs[r].n_generated >= 0 && runs[r].n_left >= 1, "a run of a stream is at its end");
    }
    runs_.assign(runs, runs + n_runs);
    tokens_.clear();
    frame_.clear();
    open_ = true;
}

bool Stream::add(const std::vector<int32_t> & drawn, const std::string & pieces) {
    const size_t n = runs_.size();
    size_t n_texts = 0;
    size_t start = 0;
    for (size_t r = 0; r < n; ++r) {
        const size_t end = static_cast<size_t>(drawn[2 * n + r]);
        if (drawn[n + r] != 0 || runs_[r].n_left <= 1 || end - start > 0xffff || !is_utf8(&pieces[start], end - start)) {
            open_ = false;
            return false;
        }
        n_texts += end > start;
        start = end;
    }
    frame_.assign(4, '\0');
    put_array(frame_, 2);
    put_text(frame_, "events", 6);
    put_array(frame_, n_texts);
    start = 0;
    for (size_t r = 0; r < n; ++r) {
        const size_t end = static_cast<size_t>(drawn[2 * n + r]);
        shimmy_stream_run & run = runs_[r];
        ++run.n_generated;
        --run.n_left;
        tokens_.push_back(drawn[r]);
        if (end > start) {
            put_array(frame_, 4);
            put_text(frame_, "d", 1);
            put_int(frame_, run.id);
            put_text(frame_, &pieces[start], end - start);
            put_int(frame_, run.n_generated);
        }
        start = end;
    }
    if (n_texts == 0) {
        frame_.clear();
        return true;
    }
    const size_t size = frame_.size() - 4;
    for (size_t i = 0; i < 4; ++i) {
        frame_[i] = static_cast<char>(size >> (8 * i));
    }
    return true;
}

// Table 3-7 of the Unicode standard: no surrogates, no overlong forms, nothing above U+10FFFF.
bool is_utf8(const char * text, size_t size) {
    const auto * s = reinterpret_cast<const unsigned char *>(text);
    for (size_t i = 0; i < size;) {
        const unsigned char c = s[i];
        size_t length = 1;
        unsigned char low = 0x80;
        unsigned char high = 0xbf;
        if (c >= 0xc2 && c <= 0xdf) {
            length = 2;
        } else if (c >= 0xe0 && c <= 0xef) {
            length = 3;
            low = c == 0xe0 ? 0xa0 : 0x80;
            high = c == 0xed ? 0x9f : 0xbf;
        } else if (c >= 0xf0 && c <= 0xf4) {
            length = 4;
            low = c == 0xf0 ? 0x90 : 0x80;
            high = c == 0xf4 ? 0x8f : 0xbf;
        } else if (c >= 0x80) {
            return false;
        }
        if (size - i < length || (length > 1 && (s[i + 1] < low || s[i + 1] > high))) {
            return false;
        }
        for (size_t k = 2; k < length; ++k) {
            if (s[i + k] < 0x80 || s[i + k] > 0xbf) {
                return false;
            }
        }
        i += length;
    }
    return true;
}

}  // namespace shimmy
