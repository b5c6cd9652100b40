// What the program that goes through the C ABI checks with.
#pragma once

#include "shimmy.h"

#include <cstdio>
#include <cstdlib>

inline void check(bool condition, const char * what, const char * file, int line) {
    if (!condition) {
        std::fprintf(stderr, "%s:%d: %s (%s)\n", file, line, what, shimmy_last_error());
        std::exit(1);
    }
}
#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
