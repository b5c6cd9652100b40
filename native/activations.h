// The columns that a matrix is multiplied with, in 8 bits: blocks of 32 numbers with a scale each, as llama.cpp's Q8_0 and Q8_1.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shimmy {

constexpr int64_t block_numbers = 32;

// One column: `n` numbers as int8, then a scale and a sum for each block. Owns nothing: lies in a graph's work buffer.
struct Activations {
    const char * data;   // of the first column; 64-byte aligned
    int64_t n;           // numbers in a column, a multiple of 32
    size_t stride;       // bytes from one column to the next

    static size_t stride_of(int64_t n);

    const int8_t * numbers(int64_t column) const {
        return reinterpret_cast<const int8_t *>(data + static_cast<size_t>(column) * stride);
    }
    const float * scales(int64_t column) const { return reinterpret_cast<const float *>(numbers(column) + n); }
    // Sums of a block's int8 numbers.
    const int32_t * sums(int64_t column) const {
        return reinterpret_cast<const int32_t *>(scales(column) + n / block_numbers);
    }
};

// Writes blocks [first, first + count) of one column to `column` (laid out as above) from its floats `from`.
void quantize_blocks(const float * from, char * column, int64_t n, int64_t first, int64_t count);

}  // namespace shimmy
