#include "activations.h"

#include "simd_target.h"

#ifdef SHIMMY_PANELS

namespace shimmy {

size_t Activations::stride_of(int64_t n) {
    const size_t bytes = static_cast<size_t>(n) + static_cast<size_t>(n / block_numbers) * (sizeof(float) + sizeof(int32_t));
    return (bytes + 63) / 64 * 64;
}

void quantize_blocks(const float * from, char * column, int64_t n, int64_t first, int64_t count) {
    auto * numbers = reinterpret_cast<int8_t *>(column);
    auto * scales = reinterpret_cast<float *>(column + n);
    auto * sums = reinterpret_cast<int32_t *>(scales + n / block_numbers);
    for (int64_t b = first; b < first + count; ++b) {
        const __m512 low = _mm512_loadu_ps(from + b * block_numbers);
        const __m512 high = _mm512_loadu_ps(from + b * block_numbers + 16);
        const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        const __m512i low_numbers = _mm512_cvtps_epi32(_mm512_mul_ps(low, _mm512_set1_ps(inverse)));
        const __m512i high_numbers = _mm512_cvtps_epi32(_mm512_mul_ps(high, _mm512_set1_ps(inverse)));
        auto * to = reinterpret_cast<__m128i *>(numbers + b * block_numbers);
        const __m128i low_bytes = _mm512_cvtsepi32_epi8(low_numbers);
        const __m128i high_bytes = _mm512_cvtsepi32_epi8(high_numbers);
        _mm_storeu_si128(to, low_bytes);
        _mm_storeu_si128(to + 1, high_bytes);
        scales[b] = largest / 127.0f;
        // Of the stored bytes: a number that is none gives -128 there.
        sums[b] = _mm512_reduce_add_epi32(
            _mm512_add_epi32(_mm512_cvtepi8_epi32(low_bytes), _mm512_cvtepi8_epi32(high_bytes)));
    }
}

}  // namespace shimmy

#endif
