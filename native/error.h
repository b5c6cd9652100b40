// The border between C++ exceptions and the C ABI's status codes.
#pragma once

#include "shimmy.h"

#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace shimmy {

// An error with the status that the C ABI returns for it.
struct Error : std::runtime_error {
    Error(int32_t code, const std::string & message, const char * name = "")
        : std::runtime_error(message), status(code), param(name) {}
    int32_t status;
    const char * param;  // a literal: the parameter that the message is about, or ""
};

// Remembers the line for shimmy_last_error(), with the parameter it is about, and returns `status`. Never throws.
int32_t fail(int32_t status, const char * message, const char * param = "") noexcept;

// What llama.cpp has logged as errors in this thread since forget_log(), in one line; empty when nothing was.
std::string logged_errors();
void forget_log() noexcept;

// Runs `body` and turns whatever it throws into a status.
template <typename Body>
int32_t guarded(Body && body) noexcept {
    try {
        body();
        return SHIMMY_OK;
    } catch (const Error & e) {
        return fail(e.status, e.what(), e.param);
    } catch (const std::bad_alloc &) {
        return fail(SHIMMY_E_MEMORY, "out of memory");
    } catch (const std::exception & e) {
        return fail(SHIMMY_E_INTERNAL, e.what());
    } catch (...) {
        return fail(SHIMMY_E_INTERNAL, "unknown C++ exception");
    }
}

// Throws SHIMMY_E_INVALID with `message` unless `condition`.
inline void require(bool condition, const char * message) {
    if (!condition) {
        throw Error(SHIMMY_E_INVALID, message);
    }
}

// The same for one named parameter: `rule` says what it must be.
inline void require_param(bool condition, const char * name, const char * rule) {
    if (!condition) {
        throw Error(SHIMMY_E_INVALID, std::string(name) + " " + rule, name);
    }
}

// A heap copy for the caller of the C ABI, freed with shimmy_string_free.
char * copy_string(const std::string & text);

}  // namespace shimmy
