// Some heads of one query that share their keys and values, over a list of cells: the inner loops of row_worker.h.
#pragma once

#include "simd_target.h"

#ifdef SHIMMY_PANELS

#include "lanes.h"

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace shimmy {

constexpr int most_heads = 4;  // at once: as many as registers allow

// Where 16-bit vectors of one head lie: that of cell c begins at data + c * stride.
struct Cells16 {
    const char * data;
    size_t stride;
    int64_t n;  // numbers in a vector, a multiple of 16

    const char * of(int32_t cell) const { return data + static_cast<size_t>(cell) * stride; }
};

inline __m512 widen(const char * from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
}

// Lane i of the result is the sum of rows[i]'s lanes.
inline __m512 sum_rows(const __m512 rows[16]) {
    __m512 a[8], b[4];
    for (int i = 0; i < 8; ++i) {
        a[i] = _mm512_add_ps(
            _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]), _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]));
    }
    for (int i = 0; i < 4; ++i) {
        const __m512d x = _mm512_castps_pd(a[2 * i]), y = _mm512_castps_pd(a[2 * i + 1]);
        b[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    const __m512 c = _mm512_add_ps(_mm512_shuffle_f32x4(b[0], b[1], 0x88), _mm512_shuffle_f32x4(b[0], b[1], 0xdd));
    const __m512 d = _mm512_add_ps(_mm512_shuffle_f32x4(b[2], b[3], 0x88), _mm512_shuffle_f32x4(b[2], b[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd));
}

// The softmax so far, by powers of two: `sum` and `values` are multiplied by 2^-largest.
struct HeadState {
    float largest;
    float sum;
};

// Scratch of one thread; `queries` and `values` have most_heads rows.
struct HeadScratch {
    __m512 * products;  // 16 for each head
    float * weights;    // 16 for each head
    float * queries;    // multiplied by the scale and by log2(e)
    float * values;     // weighted sums so far
};

template <int Heads>
inline void multiply_keys(const Cells16 & keys, const int32_t cells[16], const HeadScratch & scratch) {
    for (int t = 0; t < 16; ++t) {
        const char * key = keys.of(cells[t]);
        __m512 sums[Heads];
        for (__m512 & sum : sums) {
            sum = _mm512_setzero_ps();
        }
        for (int64_t i = 0; i < keys.n; i += 16) {
            const __m512 k = widen(key + 2 * i);
            for (int h = 0; h < Heads; ++h) {
                sums[h] = _mm512_fmadd_ps(k, _mm512_loadu_ps(scratch.queries + h * keys.n + i), sums[h]);
            }
        }
        for (int h = 0; h < Heads; ++h) {
            scratch.products[h * 16 + t] = sums[h];
        }
    }
}

// Turns one head's scores into weights and its state to the new largest; returns what its values so far are to be multiplied with.
template <int Vectors> inline float take_scores(const __m512 scores[Vectors], HeadState & state, float * weights) {
    __m512 most = scores[0];
    __mmask16 no_numbers = _mm512_cmp_ps_mask(scores[0], _mm512_set1_ps(INFINITY), _CMP_NLT_UQ);
    for (int j = 1; j < Vectors; ++j) {
        most = _mm512_max_ps(most, scores[j]);
        no_numbers |= _mm512_cmp_ps_mask(scores[j], _mm512_set1_ps(INFINITY), _CMP_NLT_UQ);
    }
    const float largest = std::fmax(state.largest, _mm512_reduce_max_ps(most));
    if (no_numbers || largest == -INFINITY) {
        for (int j = 0; j < Vectors; ++j) {
            _mm512_storeu_ps(weights + 16 * j, _mm512_setzero_ps());
        }
        if (no_numbers) {  // infinite or no number: the result must be no number either, as ggml's is
            state = {0.0f, NAN};
        }
        return 1.0f;
    }
    const float shrink = std::exp2(state.largest - largest);
    __m512 sum = _mm512_setzero_ps();
    for (int j = 0; j < Vectors; ++j) {
        const __m512 below = _mm512_sub_ps(scores[j], _mm512_set1_ps(largest));
        Lanes powers;
        std::memcpy(&powers, &below, sizeof powers);
        exp2_nonpositive(powers);
        __m512 taken;
        std::memcpy(&taken, &powers, sizeof taken);
        // A lane without a cell has -inf, which the approximation does not make 0.
        taken = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(scores[j], _mm512_set1_ps(-INFINITY), _CMP_NEQ_UQ), taken);
        _mm512_storeu_ps(weights + 16 * j, taken);
        sum = _mm512_add_ps(sum, taken);
    }
    state.sum = state.sum * shrink + _mm512_reduce_add_ps(sum);
    state.largest = largest;
    return shrink;
}

template <int Heads>
inline void add_values(
    const Cells16 & values, const int32_t cells[16], const float shrink[Heads], const HeadScratch & scratch) {
    constexpr int wide = 4;  // vectors at once
    for (int64_t i = 0; i < values.n; i += 16 * wide) {
        const int n = values.n - i >= 16 * wide ? wide : static_cast<int>((values.n - i) / 16);
        __m512 sums[Heads][wide];
        for (int h = 0; h < Heads; ++h) {
            for (int j = 0; j < wide; ++j) {
                sums[h][j] = j < n ? _mm512_mul_ps(
                                         _mm512_loadu_ps(scratch.values + h * values.n + i + 16 * j), _mm512_set1_ps(shrink[h]))
                                   : _mm512_setzero_ps();
            }
        }
        for (int t = 0; t < 16; ++t) {
            const char * value = values.of(cells[t]) + 2 * i;
            for (int j = 0; j < wide; ++j) {
                if (j < n) {
                    const __m512 v = widen(value + 32 * j);
                    for (int h = 0; h < Heads; ++h) {
                        sums[h][j] = _mm512_fmadd_ps(v, _mm512_set1_ps(scratch.weights[h * 16 + t]), sums[h][j]);
                    }
                }
            }
        }
        for (int h = 0; h < Heads; ++h) {
            for (int j = 0; j < n; ++j) {
                _mm512_storeu_ps(scratch.values + h * values.n + i + 16 * j, sums[h][j]);
            }
        }
    }
}

// Sixteen cells, of which `valid` count; `biases` (log2) holds 16 for each head, or is null.
template <int Heads>
inline void attend(
    const Cells16 & keys, const Cells16 & values, const int32_t cells[16], __mmask16 valid, const __m512 * biases,
    const HeadScratch & scratch, HeadState states[Heads]) {
    multiply_keys<Heads>(keys, cells, scratch);
    float shrink[Heads];
    for (int h = 0; h < Heads; ++h) {
        __m512 scores = sum_rows(scratch.products + h * 16);
        if (biases) {
            scores = _mm512_add_ps(scores, biases[h]);
        }
        scores = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), valid, scores);
        shrink[h] = take_scores<1>(&scores, states[h], scratch.weights + h * 16);
    }
    add_values<Heads>(values, cells, shrink, scratch);
}

}  // namespace shimmy

#endif
