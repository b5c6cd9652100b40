// Attention of single queries, each over the list of the cells that it sees: for cpu_attention.h.
#pragma once

#include "simd_target.h"

#ifdef SHIMMY_PANELS

#include "attention_heads.h"
#include "attention_output.h"
#include "attention_shape.h"

#include <algorithm>

namespace shimmy {

// What one thread computes single queries with.
class RowWorker {
  public:
    RowWorker(const AttentionShape & shape, char * scratch) : shape_(shape) {
        char * at = scratch;
        cells_ = take<int32_t>(at, static_cast<size_t>(shape.k->ne[1] + 48));
        scratch_.products = take<__m512>(at, most_heads * 16);
        scratch_.weights = take<float>(at, most_heads * 16);
        scratch_.queries = take<float>(at, static_cast<size_t>(most_heads * shape.k->ne[0]));
        scratch_.values = take<float>(at, static_cast<size_t>(most_heads * shape.v->ne[0]));
    }

    // One group of heads of one query over a part of its cells.
    void work(int64_t query, int64_t stream, int64_t group, int64_t part, const AttentionOutput & output) {
        const int64_t key = group / shape_.groups_a_key;
        const int64_t first = key * shape_.heads_a_key + group % shape_.groups_a_key * most_heads;
        const int64_t n = std::min<int64_t>(most_heads, (key + 1) * shape_.heads_a_key - first);
        list_cells(query, stream);
        switch (n) {
            case 1: return attend_part<1>(query, stream, key, first, part, output);
            case 2: return attend_part<2>(query, stream, key, first, part, output);
            case 3: return attend_part<3>(query, stream, key, first, part, output);
            default: return attend_part<most_heads>(query, stream, key, first, part, output);
        }
    }

    // Room for one head's result, between two calls of work.
    float * values() const { return scratch_.values; }

    static size_t scratch_size(const AttentionShape & shape) {
        return aligned(static_cast<size_t>(shape.k->ne[1] + 48) * sizeof(int32_t)) + most_heads * 16 * sizeof(__m512) +
               aligned(most_heads * 16 * sizeof(float)) + aligned(static_cast<size_t>(most_heads * shape.k->ne[0]) * sizeof(float)) +
               aligned(static_cast<size_t>(most_heads * shape.v->ne[0]) * sizeof(float));
    }

  private:
    // The cells that a query sees, in `cells_`; the last is repeated up to a multiple of 16.
    void list_cells(int64_t query, int64_t stream) {
        if (query == query_ && stream == stream_) {
            return;
        }
        query_ = query;
        stream_ = stream;
        const auto n = static_cast<int32_t>(shape_.k->ne[1]);
        n_cells_ = 0;
        weighted_ = false;
        mask_ = nullptr;
        if (!shape_.mask) {
            for (; n_cells_ < n; ++n_cells_) {
                cells_[n_cells_] = n_cells_;
            }
        } else {
            mask_ = mask_row(shape_, query, stream);
            list_unmasked(n);
        }
        for (int32_t i = n_cells_; n_cells_ > 0 && i % 16; ++i) {
            cells_[i] = cells_[n_cells_ - 1];
        }
    }

    void list_unmasked(int32_t n) {
        for (int32_t at = 0; at < n; at += 32) {
            if (const uint32_t seen = seen_cells(mask_, at, n, weighted_)) {
                append_cells(cells_, n_cells_, at, seen);
            }
        }
    }

    template <int Heads>
    void attend_part(
        int64_t query, int64_t stream, int64_t key, int64_t first, int64_t part, const AttentionOutput & output) {
        const Cells16 keys = cells_of(shape_.k, key, stream), values = cells_of(shape_.v, key, stream);
        HeadState states[Heads];
        float slopes[Heads];
        for (int h = 0; h < Heads; ++h) {
            states[h] = {-INFINITY, 0.0f};
            slopes[h] = slope_of(shape_, first + h);
            const auto * from = reinterpret_cast<const float *>(
                static_cast<const char *>(shape_.q->data) + static_cast<size_t>(query) * shape_.q->nb[1] +
                static_cast<size_t>(first + h) * shape_.q->nb[2] + static_cast<size_t>(stream) * shape_.q->nb[3]);
            for (int64_t i = 0; i < keys.n; ++i) {
                scratch_.queries[h * keys.n + i] = from[i] * shape_.scale * log2_e;
            }
        }
        std::fill_n(scratch_.values, Heads * values.n, 0.0f);
        const int32_t n_tiles = (n_cells_ + 15) / 16;
        const auto end = static_cast<int32_t>(n_tiles * (part + 1) / output.parts());
        for (auto tile = static_cast<int32_t>(n_tiles * part / output.parts()); tile < end; ++tile) {
            const int32_t * cells = cells_ + tile * 16;
            const int32_t left = n_cells_ - tile * 16;
            const auto valid = static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1);
            __m512 biases[Heads];
            if (weighted_) {
                for (int h = 0; h < Heads; ++h) {
                    biases[h] = _mm512_mul_ps(biases_of(cells), _mm512_set1_ps(slopes[h] * log2_e));
                }
            }
            attend<Heads>(keys, values, cells, valid, weighted_ ? biases : nullptr, scratch_, states);
        }
        for (int h = 0; h < Heads; ++h) {
            output.put(states[h], scratch_.values + h * values.n, first + h, query, stream, part);
        }
    }

    __m512 biases_of(const int32_t cells[16]) const {
        alignas(32) uint16_t halves[16];
        for (int t = 0; t < 16; ++t) {
            halves[t] = mask_[cells[t]];
        }
        return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i *>(halves)));
    }

    const AttentionShape & shape_;
    HeadScratch scratch_{};
    int32_t * cells_ = nullptr;
    int32_t n_cells_ = 0;
    int64_t query_ = -1, stream_ = -1;  // whose cells are listed
    const uint16_t * mask_ = nullptr;   // of that query
    bool weighted_ = false;             // whether its mask holds more than "seen" and "not seen"
};

}  // namespace shimmy

#endif
