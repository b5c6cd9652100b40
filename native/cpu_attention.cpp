#include "cpu_attention.h"

#ifdef SHIMMY_PANELS

#include "attention_output.h"
#include "attention_shape.h"
#include "ggml-cpu/ggml-cpu-impl.h"
#include "query_tiles.h"
#include "row_worker.h"
#include "tile_worker.h"

#include <algorithm>
#include <new>

namespace shimmy {
namespace {

// What the first thread finds out for all, at the beginning of the node's memory.
struct Division {
    int64_t n_tiles, n_rows, parts;
};

// Where what lies in the node's memory.
struct Layout {
    Layout(const AttentionShape & shape, int n_threads)
        : tiles(aligned(sizeof(Division))), scratch(tiles + QueryTiles::size(shape)),
          scratch_size(RowWorker::scratch_size(shape) + TileWorker::scratch_size(shape)),
          partials(scratch + static_cast<size_t>(n_threads) * scratch_size) {
        // As many parts as there can be for so many threads; fewer may come, and then there are no more parts than for these.
        most_parts = shape.parts(QueryTiles::least_units(shape), n_threads);
        const auto n_results = static_cast<size_t>(
            most_parts == 1 ? 0 : shape.n_streams * shape.n_queries * shape.n_heads * most_parts);
        size = partials + n_results * shape.partial_size();
    }

    size_t tiles, scratch, scratch_size, partials, size;
    int64_t most_parts;
};

}  // namespace

bool CpuAttention::takes(const ggml_tensor * node) {
    if (node->op != GGML_OP_FLASH_ATTN_EXT) {
        return false;
    }
    const AttentionShape shape(node);
    const ggml_tensor *q = shape.q, *k = shape.k, *v = shape.v;
    return q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && q->nb[0] == 4 &&
           k->nb[0] == 2 && v->nb[0] == 2 && k->ne[0] % 16 == 0 && v->ne[0] % 16 == 0 && k->ne[2] == v->ne[2] &&
           k->ne[3] == v->ne[3] && k->ne[3] == q->ne[3] && k->ne[1] < INT32_MAX - 128 && q->ne[1] < INT32_MAX && shape.plain &&
           (!shape.mask || (shape.mask->type == GGML_TYPE_F16 && shape.mask->ne[2] == 1)) && node->nb[0] == sizeof(float);
}

bool CpuAttention::work_size(int n_threads, const ggml_tensor * node, size_t & size) {
    const AttentionShape shape(node);
    size = 64;
    for (int n = 1; n <= n_threads; ++n) {
        size = std::max(size, 64 + Layout(shape, n).size);
    }
    return true;
}

bool CpuAttention::compute_forward(ggml_compute_params * params, ggml_tensor * node) {
    if (params->use_ref) {
        return false;
    }
    const AttentionShape shape(node);
    const int n_threads = params->nth;
    const Layout layout(shape, n_threads);
    auto * memory = reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(params->wdata) + 63) / 64 * 64);
    char * scratch = memory + layout.scratch + static_cast<size_t>(params->ith) * layout.scratch_size;
    auto * division = reinterpret_cast<Division *>(memory);
    QueryTiles tiles(shape, memory + layout.tiles);
    const int64_t n_keys = shape.k->ne[2];
    if (params->ith == 0) {
        tiles.divide();
        // Tiles are so much more work than rows that these do not count beside them.
        const int64_t n_units = tiles.n_tiles ? tiles.n_tiles * n_keys : tiles.n_rows * shape.n_groups;
        const int64_t parts = std::min(shape.parts(n_units, n_threads), layout.most_parts);
        new (division) Division{tiles.n_tiles, tiles.n_rows, parts};
        ggml_threadpool_chunk_set(params->threadpool, n_threads);
    }
    ggml_barrier(params->threadpool);
    const AttentionOutput output(shape, division->parts, memory + layout.partials);
    RowWorker row_worker(shape, scratch);
    TileWorker tile_worker(shape, scratch + RowWorker::scratch_size(shape));
    const int64_t n_tile_chunks = division->n_tiles * n_keys * output.parts();
    const int64_t n_chunks = n_tile_chunks + division->n_rows * shape.n_groups * output.parts();
    for (int64_t chunk = params->ith; chunk < n_chunks; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t part = chunk % output.parts();
        if (chunk < n_tile_chunks) {
            const int64_t unit = chunk / output.parts();
            tile_worker.work(tiles.tile(unit / n_keys), unit % n_keys, part, output);
        } else {
            const int64_t unit = (chunk - n_tile_chunks) / output.parts();
            const QueryTile & row = tiles.row(unit / shape.n_groups);
            row_worker.work(row.first, row.stream, unit % shape.n_groups, part, output);
        }
    }
    if (output.parts() > 1) {
        ggml_barrier(params->threadpool);
        for (int64_t row = params->ith; row < shape.n_streams * shape.n_queries * shape.n_heads; row += n_threads) {
            const int64_t query = row / shape.n_heads;
            output.combine(row % shape.n_heads, query % shape.n_queries, query / shape.n_queries, row_worker.values());
        }
    }
    return true;
}

}  // namespace shimmy

#endif
