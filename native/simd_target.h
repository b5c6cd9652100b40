// Which of our own kernels the processor that is compiled for can run. Where none can, llama.cpp's are used.
#pragma once

// Panels of 16 rows: AVX-512 with byte dot products (Intel from Cascade Lake on, AMD from Zen 4 on).
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512VNNI__) && \
    defined(__BMI2__)
#define SHIMMY_PANELS 1
#endif

#ifdef SHIMMY_PANELS
// GCC (before 13) takes the placeholders in its own intrinsics for variables that nobody set: for the rest of each file.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif
