// One block of 16 rows of a quantized matrix, turned so that lane i of every vector belongs to row i: eight vectors of four
// unsigned bytes a row, a scale a row and, for types that have one, a minimum a row. Formats: ggml-common.h.
#pragma once

#include "activations.h"
#include "simd_target.h"

#ifdef SHIMMY_PANELS

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

namespace shimmy {

constexpr int64_t panel_rows = 16;

struct Tile {
    __m512i bytes[8];  // bytes[j]: numbers 4j .. 4j + 3
    __m512 scale;
    __m512 minimum;  // only where the type has minima
};

// Where 16 rows begin, for one block after the other; rows past the matrix's last repeat it.
class Panel {
  public:
    Panel(const char * first, size_t stride, int64_t n_rows) : first_(first) {
        alignas(64) int32_t offsets[panel_rows];
        for (int64_t row = 0; row < panel_rows; ++row) {
            offsets[row] = static_cast<int32_t>(static_cast<size_t>(row < n_rows ? row : n_rows - 1) * stride);
            rows_[row] = first + offsets[row];
        }
        offsets_ = _mm512_load_si512(offsets);
    }

    // Four bytes of each row.
    __m512i words(size_t at) const { return _mm512_i32gather_epi32(offsets_, first_ + at, 1); }

    // Sixteen bytes of each row, as four vectors of four bytes a row.
    void quarters(size_t at, __m512i out[4]) const {
        __m512i z[4];
        for (int i = 0; i < 4; ++i) {
            __m512i x = _mm512_castsi128_si512(load(i, at));
            x = _mm512_inserti32x4(x, load(4 + i, at), 1);
            x = _mm512_inserti32x4(x, load(8 + i, at), 2);
            z[i] = _mm512_inserti32x4(x, load(12 + i, at), 3);
        }
        const __m512i a = _mm512_unpacklo_epi32(z[0], z[1]);
        const __m512i b = _mm512_unpackhi_epi32(z[0], z[1]);
        const __m512i c = _mm512_unpacklo_epi32(z[2], z[3]);
        const __m512i d = _mm512_unpackhi_epi32(z[2], z[3]);
        out[0] = _mm512_unpacklo_epi64(a, c);
        out[1] = _mm512_unpackhi_epi64(a, c);
        out[2] = _mm512_unpacklo_epi64(b, d);
        out[3] = _mm512_unpackhi_epi64(b, d);
    }

  private:
    __m128i load(int row, size_t at) const {
        return _mm_loadu_si128(reinterpret_cast<const __m128i *>(rows_[row] + at));
    }

    const char * first_;
    const char * rows_[panel_rows];
    __m512i offsets_;
};

inline __m512 low_halves(__m512i words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }
inline __m512 high_halves(__m512i words) { return low_halves(_mm512_srli_epi32(words, 16)); }

// Numbers of four bits: the low halves of 16 bytes are the first sixteen, the high halves the others.
inline void unpack_nibbles(const Panel & panel, size_t at, Tile & tile) {
    __m512i packed[4];
    panel.quarters(at, packed);
    const __m512i mask = _mm512_set1_epi8(15);
    for (int j = 0; j < 4; ++j) {
        tile.bytes[j] = _mm512_and_si512(packed[j], mask);
        tile.bytes[4 + j] = _mm512_and_si512(_mm512_srli_epi32(packed[j], 4), mask);
    }
}

// A fifth bit for each number: bit i of `bits` is number i's.
inline void add_fifth_bits(__m512i bits, Tile & tile) {
    const __m512i each = _mm512_set1_epi32(static_cast<int32_t>(0x08040201u));
    for (int j = 0; j < 8; ++j) {
        // Byte j / 2 holds the bits of numbers 4j .. 4j + 3, in its low or its high half.
        const __m512i byte_of = _mm512_add_epi32(
            _mm512_set1_epi32(0x01010101 * (j / 2)),
            _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c)));
        const __m512i spread = _mm512_shuffle_epi8(bits, byte_of);
        const __mmask64 set = _mm512_test_epi8_mask(spread, j % 2 ? _mm512_slli_epi32(each, 4) : each);
        tile.bytes[j] = _mm512_mask_add_epi8(tile.bytes[j], set, tile.bytes[j], _mm512_set1_epi8(16));
    }
}

// Each type: `offset` is what must be taken from its unsigned bytes to get its numbers, unless it has minima.

// Numbers of four bits, or of five, whose fifth bits lie apart. `Block` is ggml's.
template <typename Block, bool minima, bool fifth_bits>
struct Nibbles {
    static constexpr size_t size = sizeof(Block);
    static constexpr int32_t offset = minima ? 0 : fifth_bits ? 16 : 8;
    static constexpr bool has_minima = minima;
    static void unpack(const Panel & panel, size_t at, Tile & tile) {
        const __m512i head = panel.words(at);
        tile.scale = low_halves(head);
        if constexpr (minima) {
            tile.minimum = high_halves(head);
        }
        unpack_nibbles(panel, at + offsetof(Block, qs), tile);
        if constexpr (fifth_bits) {
            add_fifth_bits(panel.words(at + offsetof(Block, qh)), tile);
        }
    }
};

using Q4_0 = Nibbles<block_q4_0, false, false>;
using Q4_1 = Nibbles<block_q4_1, true, false>;
using Q5_0 = Nibbles<block_q5_0, false, true>;
using Q5_1 = Nibbles<block_q5_1, true, true>;

struct Q8_0 {
    static constexpr size_t size = sizeof(block_q8_0);
    static constexpr int32_t offset = 128;
    static constexpr bool has_minima = false;
    static void unpack(const Panel & panel, size_t at, Tile & tile) {
        tile.scale = low_halves(panel.words(at));
        panel.quarters(at + offsetof(block_q8_0, qs), tile.bytes);
        panel.quarters(at + offsetof(block_q8_0, qs) + 16, tile.bytes + 4);
        for (__m512i & bytes : tile.bytes) {
            bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(-128)));
        }
    }
};

}  // namespace shimmy

#endif
