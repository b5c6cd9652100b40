// Attention of queries that see nearly the same cells, together: for cpu_attention.h. The cells that any of them sees are gathered 64 at a
// time, as floats and with keys turned so that a vector holds one number of 16 cells; then six rows (heads of queries that share a key)
// at a time are multiplied with them, which loads ten numbers for 24 products of vectors.
#pragma once

#include "simd_target.h"

#ifdef SHIMMY_PANELS

#include "attention_heads.h"
#include "attention_output.h"
#include "attention_shape.h"
#include "query_tiles.h"

#include <algorithm>
#include <cstring>

namespace shimmy {

constexpr int tile_cells = 64;  // gathered at once
constexpr int tile_vectors = tile_cells / 16;
constexpr int tile_rows = 6;  // at once: 24 sums, and what is multiplied, fill the registers

// Turns 16 rows of 16 numbers into columns.
inline void transpose(__m512 rows[16]) {
    __m512 a[16];
    for (int i = 0; i < 8; ++i) {
        a[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    __m512 b[16];
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 2; ++j) {
            const __m512d x = _mm512_castps_pd(a[4 * i + j]), y = _mm512_castps_pd(a[4 * i + 2 + j]);
            b[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            b[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    }
    for (int i = 0; i < 4; ++i) {
        const __m512 c0 = _mm512_shuffle_f32x4(b[i], b[4 + i], 0x88), c1 = _mm512_shuffle_f32x4(b[i], b[4 + i], 0xdd);
        const __m512 d0 = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0x88);
        const __m512 d1 = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0xdd);
        rows[i] = _mm512_shuffle_f32x4(c0, d0, 0x88);
        rows[8 + i] = _mm512_shuffle_f32x4(c0, d0, 0xdd);
        rows[4 + i] = _mm512_shuffle_f32x4(c1, d1, 0x88);
        rows[12 + i] = _mm512_shuffle_f32x4(c1, d1, 0xdd);
    }
}

// What one thread computes tiles with.
class TileWorker {
  public:
    TileWorker(const AttentionShape & shape, char * scratch)
        : shape_(shape), n_words_(words(shape)), n_keys_(shape.k->ne[0]), n_values_(shape.v->ne[0]) {
        cells_ = take<int32_t>(scratch, n_words_ * 64 + 32);
        seen_ = take<uint64_t>(scratch, static_cast<size_t>(QueryTiles::most_queries(shape)) * n_words_);
        queries_ = take<float>(scratch, rows(shape) * static_cast<size_t>(n_keys_));
        sums_ = take<float>(scratch, rows(shape) * static_cast<size_t>(n_values_));
        keys_ = take<float>(scratch, tile_cells * static_cast<size_t>(n_keys_));
        values_ = take<float>(scratch, tile_cells * static_cast<size_t>(n_values_));
        weights_ = take<float>(scratch, tile_rows * tile_cells);
        states_ = take<HeadState>(scratch, rows(shape));
    }

    static size_t scratch_size(const AttentionShape & shape) {
        const auto n_keys = static_cast<size_t>(shape.k->ne[0]), n_values = static_cast<size_t>(shape.v->ne[0]);
        const auto floats = [](size_t n) { return aligned(n * sizeof(float)); };
        return aligned((words(shape) * 64 + 32) * sizeof(int32_t)) +
               aligned(static_cast<size_t>(QueryTiles::most_queries(shape)) * words(shape) * sizeof(uint64_t)) +
               floats(rows(shape) * n_keys) + floats(rows(shape) * n_values) + floats(tile_cells * n_keys) +
               floats(tile_cells * n_values) + floats(tile_rows * tile_cells) + aligned(rows(shape) * sizeof(HeadState));
    }

    // The heads of one key of a tile's queries over a part of the cells.
    void work(const QueryTile & tile, int64_t key, int64_t part, const AttentionOutput & output) {
        list_cells(tile);
        const int64_t n_rows = tile.n * shape_.heads_a_key;
        const int64_t n_groups = (n_rows + tile_rows - 1) / tile_rows;
        load_queries(tile, key, n_groups);
        const Cells16 keys = cells_of(shape_.k, key, tile.stream), values = cells_of(shape_.v, key, tile.stream);
        const int64_t n_blocks = (n_cells_ + tile_cells - 1) / tile_cells;
        const int64_t end = n_blocks * (part + 1) / output.parts();
        for (int64_t block = n_blocks * part / output.parts(); block < end; ++block) {
            gather_keys(keys, cells_ + block * tile_cells);
            gather_values(values, cells_ + block * tile_cells);
            for (int64_t group = 0; group < n_groups; ++group) {
                attend(group, n_rows, static_cast<size_t>(block));
            }
        }
        for (int64_t row = 0; row < n_rows; ++row) {
            const int64_t head = key * shape_.heads_a_key + row % shape_.heads_a_key;
            output.put(states_[row], sums_ + row * n_values_, head, tile.first + row / shape_.heads_a_key, tile.stream, part);
        }
    }

  private:
    static size_t words(const AttentionShape & shape) { return static_cast<size_t>(shape.k->ne[1] + 63) / 64 + 1; }
    static size_t rows(const AttentionShape & shape) {
        const auto n = static_cast<size_t>(QueryTiles::most_queries(shape) * shape.heads_a_key);
        return (n + tile_rows - 1) / tile_rows * tile_rows;
    }

    // The cells that any query of the tile sees, the last repeated up to a multiple of 64, and which of them each sees.
    void list_cells(const QueryTile & tile) {
        if (tile.stream == tile_.stream && tile.first == tile_.first) {
            return;
        }
        tile_ = tile;
        n_cells_ = 0;
        std::fill_n(seen_, static_cast<size_t>(tile.n) * n_words_, uint64_t{0});
        const auto n = static_cast<int32_t>(shape_.k->ne[1]);
        uint32_t seen[most_tile_rows] = {};
        for (int32_t at = 0; at < n; at += 32) {
            uint32_t any = 0;
            for (int32_t q = 0; q < tile.n; ++q) {
                bool weighted = false;
                seen[q] = shape_.mask ? seen_cells(mask_row(shape_, tile.first + q, tile.stream), at, n, weighted)
                                      : n - at >= 32 ? ~0u : (1u << (n - at)) - 1;
                any |= seen[q];
            }
            if (any == 0) {
                continue;
            }
            const auto word = static_cast<size_t>(n_cells_) / 64;
            const int shift = n_cells_ % 64;
            for (int32_t q = 0; q < tile.n; ++q) {
                const uint64_t bits = _pext_u32(seen[q], any);
                uint64_t * to = seen_ + static_cast<size_t>(q) * n_words_ + word;
                to[0] |= bits << shift;
                if (shift > 32) {
                    to[1] |= bits >> (64 - shift);
                }
            }
            append_cells(cells_, n_cells_, at, any);
        }
        for (int32_t i = n_cells_; n_cells_ > 0 && i % tile_cells; ++i) {
            cells_[i] = cells_[n_cells_ - 1];
        }
    }

    // Groups of six rows, in each of which the six numbers that are multiplied with the same one of a key lie together.
    void load_queries(const QueryTile & tile, int64_t key, int64_t n_groups) {
        std::fill_n(queries_, n_groups * tile_rows * n_keys_, 0.0f);
        std::fill_n(sums_, n_groups * tile_rows * n_values_, 0.0f);
        std::fill_n(states_, n_groups * tile_rows, HeadState{-INFINITY, 0.0f});
        const float scale = shape_.scale * log2_e;
        for (int64_t row = 0; row < tile.n * shape_.heads_a_key; ++row) {
            const int64_t query = tile.first + row / shape_.heads_a_key;
            const int64_t head = key * shape_.heads_a_key + row % shape_.heads_a_key;
            const auto * from = reinterpret_cast<const float *>(
                static_cast<const char *>(shape_.q->data) + static_cast<size_t>(query) * shape_.q->nb[1] +
                static_cast<size_t>(head) * shape_.q->nb[2] + static_cast<size_t>(tile.stream) * shape_.q->nb[3]);
            float * to = queries_ + row / tile_rows * tile_rows * n_keys_ + row % tile_rows;
            for (int64_t i = 0; i < n_keys_; ++i) {
                to[i * tile_rows] = from[i] * scale;
            }
        }
    }

    void gather_keys(const Cells16 & keys, const int32_t * cells) {
        for (int part = 0; part < tile_vectors; ++part) {
            for (int64_t i = 0; i < n_keys_; i += 16) {
                __m512 block[16];
                for (int t = 0; t < 16; ++t) {
                    block[t] = widen(keys.of(cells[16 * part + t]) + 2 * i);
                }
                transpose(block);
                for (int t = 0; t < 16; ++t) {
                    _mm512_store_ps(keys_ + (i + t) * tile_cells + 16 * part, block[t]);
                }
            }
        }
    }

    void gather_values(const Cells16 & values, const int32_t * cells) {
        for (int t = 0; t < tile_cells; ++t) {
            const char * from = values.of(cells[t]);
            for (int64_t i = 0; i < n_values_; i += 16) {
                _mm512_store_ps(values_ + t * n_values_ + i, widen(from + 2 * i));
            }
        }
    }

    // Six rows over the cells that are gathered.
    void attend(int64_t group, int64_t n_rows, size_t block) {
        const float * queries = queries_ + group * tile_rows * n_keys_;
        __m512 scores[tile_rows][tile_vectors];
        for (auto & row : scores) {
            std::fill_n(row, tile_vectors, _mm512_setzero_ps());
        }
        for (int64_t i = 0; i < n_keys_; ++i) {
            __m512 keys[tile_vectors];
            for (int j = 0; j < tile_vectors; ++j) {
                keys[j] = _mm512_load_ps(keys_ + i * tile_cells + 16 * j);
            }
            for (int r = 0; r < tile_rows; ++r) {
                const __m512 query = _mm512_set1_ps(queries[i * tile_rows + r]);
                for (int j = 0; j < tile_vectors; ++j) {
                    scores[r][j] = _mm512_fmadd_ps(query, keys[j], scores[r][j]);
                }
            }
        }
        float shrink[tile_rows];
        for (int r = 0; r < tile_rows; ++r) {
            const int64_t row = group * tile_rows + r;
            if (row >= n_rows) {
                std::fill_n(weights_ + r * tile_cells, tile_cells, 0.0f);
                shrink[r] = 1.0f;
                continue;
            }
            const uint64_t seen = seen_[static_cast<size_t>(row / shape_.heads_a_key) * n_words_ + block];
            if (seen != ~uint64_t{0}) {
                for (int j = 0; j < tile_vectors; ++j) {
                    const auto some = static_cast<__mmask16>(seen >> (16 * j));
                    scores[r][j] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), some, scores[r][j]);
                }
            }
            shrink[r] = take_scores<tile_vectors>(scores[r], states_[row], weights_ + r * tile_cells);
        }
        float * sums = sums_ + group * tile_rows * n_values_;
        int64_t i = 0;
        for (; i + 64 <= n_values_; i += 64) {
            add_values<4>(sums + i, values_ + i, shrink);
        }
        switch ((n_values_ - i) / 16) {
            case 1: return add_values<1>(sums + i, values_ + i, shrink);
            case 2: return add_values<2>(sums + i, values_ + i, shrink);
            case 3: return add_values<3>(sums + i, values_ + i, shrink);
            default: return;
        }
    }

    template <int Vectors> void add_values(float * to, const float * values, const float shrink[tile_rows]) const {
        __m512 sums[tile_rows][Vectors];
        for (int r = 0; r < tile_rows; ++r) {
            for (int j = 0; j < Vectors; ++j) {
                sums[r][j] = _mm512_mul_ps(_mm512_loadu_ps(to + r * n_values_ + 16 * j), _mm512_set1_ps(shrink[r]));
            }
        }
        for (int t = 0; t < tile_cells; ++t) {
            __m512 value[Vectors];
            for (int j = 0; j < Vectors; ++j) {
                value[j] = _mm512_load_ps(values + t * n_values_ + 16 * j);
            }
            for (int r = 0; r < tile_rows; ++r) {
                const __m512 weight = _mm512_set1_ps(weights_[r * tile_cells + t]);
                for (int j = 0; j < Vectors; ++j) {
                    sums[r][j] = _mm512_fmadd_ps(weight, value[j], sums[r][j]);
                }
            }
        }
        for (int r = 0; r < tile_rows; ++r) {
            for (int j = 0; j < Vectors; ++j) {
                _mm512_storeu_ps(to + r * n_values_ + 16 * j, sums[r][j]);
            }
        }
    }

    const AttentionShape & shape_;
    size_t n_words_;
    int64_t n_keys_, n_values_;
    QueryTile tile_{-1, -1, 0};  // whose cells are listed
    int32_t n_cells_ = 0;
    int32_t * cells_ = nullptr;
    uint64_t * seen_ = nullptr;  // a bit for each listed cell, for each query
    float *queries_ = nullptr, *sums_ = nullptr, *keys_ = nullptr, *values_ = nullptr, *weights_ = nullptr;
    HeadState * states_ = nullptr;
};

}  // namespace shimmy

#endif
