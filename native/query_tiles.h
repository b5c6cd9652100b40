// Which queries of an attention node see nearly the same cells, so that they can be computed together: those of a prompt's slice do,
// each of which sees one cell more than the one before; those of sequences that decode do not.
#pragma once

#include "simd_target.h"

#ifdef SHIMMY_PANELS

#include "attention_shape.h"

#include <algorithm>
#include <cstdint>

namespace shimmy {

constexpr int64_t most_tile_rows = 48;  // heads of queries; more gain nothing where the keys are small, and cost cache

// Queries first to first + n - 1 of a stream.
struct QueryTile {
    int32_t stream, first, n;
};

class QueryTiles {
  public:
    static size_t size(const AttentionShape & shape) {
        const auto n = static_cast<size_t>(shape.n_streams * shape.n_queries);
        return 2 * aligned(n * sizeof(QueryTile)) + 2 * aligned(words(shape) * sizeof(uint32_t));
    }

    // Queries of a tile: their heads that share a key are its rows.
    static int64_t most_queries(const AttentionShape & shape) {
        return std::max<int64_t>(most_tile_rows / shape.heads_a_key, 1);
    }

    // The fewest units of work that a node's tiles and rows can make.
    static int64_t least_units(const AttentionShape & shape) {
        const int64_t most = most_queries(shape);
        return shape.n_streams * ((shape.n_queries + most - 1) / most) * shape.k->ne[2];
    }

    QueryTiles(const AttentionShape & shape, char * memory) : shape_(shape) {
        const auto n = static_cast<size_t>(shape.n_streams * shape.n_queries);
        tiles_ = take<QueryTile>(memory, n);
        rows_ = take<QueryTile>(memory, n);
        all_ = take<uint32_t>(memory, words(shape));
        one_ = take<uint32_t>(memory, words(shape));
    }

    // For one thread; the others may read its tiles and rows after a barrier, by the counts that it gives them.
    void divide() {
        n_tiles = n_rows = 0;
        for (int64_t stream = 0; stream < shape_.n_streams; ++stream) {
            for (int64_t query = 0; query < shape_.n_queries;) {
                query += add(stream, query);
            }
        }
    }

    const QueryTile & tile(int64_t number) const { return tiles_[number]; }
    const QueryTile & row(int64_t number) const { return rows_[number]; }

    int64_t n_tiles = 0, n_rows = 0;

  private:
    static size_t words(const AttentionShape & shape) { return static_cast<size_t>(shape.k->ne[1] + 31) / 32; }

    // A tile that begins with this query, or the query alone; how many queries that is.
    int64_t add(int64_t stream, int64_t query) {
        const int64_t most = std::min(most_queries(shape_), shape_.n_queries - query);
        int64_t n = 1;
        if (!shape_.mask) {
            n = most;
        } else if (most >= least_queries && !read(stream, query)) {
            std::swap(all_, one_);
            for (int64_t fewest = seen_; n < most && !read(stream, query + n); ++n) {
                fewest = std::min(fewest, seen_);
                if (4 * together_ > 5 * fewest + 128) {  // too many that some of them do not see
                    break;
                }
                for (size_t i = 0; i < words(shape_); ++i) {
                    all_[i] |= one_[i];
                }
            }
        }
        const bool few = n < least_queries || n * shape_.heads_a_key < least_rows;
        const QueryTile made{static_cast<int32_t>(stream), static_cast<int32_t>(query), static_cast<int32_t>(few ? 1 : n)};
        (few ? rows_[n_rows++] : tiles_[n_tiles++]) = made;
        return made.n;
    }

    // Reads which cells a query sees, how many these are, and how many with those of `all_`. True where its mask holds more than that.
    bool read(int64_t stream, int64_t query) {
        const uint16_t * mask = mask_row(shape_, query, stream);
        const auto n = static_cast<int32_t>(shape_.k->ne[1]);
        bool weighted = false;
        seen_ = together_ = 0;
        for (int32_t at = 0; at < n; at += 32) {
            const uint32_t seen = seen_cells(mask, at, n, weighted);
            one_[at / 32] = seen;
            seen_ += __builtin_popcount(seen);
            together_ += __builtin_popcount(seen | all_[at / 32]);
        }
        return weighted;
    }

    static constexpr int64_t least_queries = 3, least_rows = 6;  // below, single queries are as fast

    const AttentionShape & shape_;
    QueryTile *tiles_ = nullptr, *rows_ = nullptr;
    uint32_t *all_ = nullptr, *one_ = nullptr;
    int64_t seen_ = 0, together_ = 0;
};

}  // namespace shimmy

#endif
