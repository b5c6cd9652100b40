#include "panel_matmul.h"

#ifdef SHIMMY_PANELS

#include "activations.h"
#include "ggml-backend.h"
#include "ggml-cpu/ggml-cpu-impl.h"
#include "panel_tile.h"

#include <algorithm>

namespace shimmy {
namespace {

constexpr int64_t most_columns = 8;   // at once: with their sums they fill the registers
constexpr int64_t chunks_a_thread = 8;

// Adds one block's products for `Columns` columns to `sums`, lane i for row i.
template <typename Type, int Columns>
inline __attribute__((always_inline)) void multiply(
    const Tile & tile, const Activations & in, int64_t column, int64_t block, __m512 sums[Columns]) {
    __m512i whole[Columns];
    for (int c = 0; c < Columns; ++c) {
        whole[c] = Type::offset ? _mm512_set1_epi32(-Type::offset * in.sums(column + c)[block]) : _mm512_setzero_si512();
    }
    for (int j = 0; j < 8; ++j) {
        for (int c = 0; c < Columns; ++c) {
            int32_t four;
            __builtin_memcpy(&four, in.numbers(column + c) + block * block_numbers + 4 * j, sizeof four);
            whole[c] = _mm512_dpbusd_epi32(whole[c], tile.bytes[j], _mm512_set1_epi32(four));
        }
    }
    for (int c = 0; c < Columns; ++c) {
        const float scale = in.scales(column + c)[block];
        sums[c] = _mm512_fmadd_ps(
            _mm512_cvtepi32_ps(whole[c]), _mm512_mul_ps(tile.scale, _mm512_set1_ps(scale)), sums[c]);
        if (Type::has_minima) {
            const float sum = scale * static_cast<float>(in.sums(column + c)[block]);
            sums[c] = _mm512_fmadd_ps(tile.minimum, _mm512_set1_ps(sum), sums[c]);
        }
    }
}

// Where the results go: element (row, column) at to + row + column * stride.
struct Results {
    float * to;
    int64_t stride;
    __mmask16 rows;
};

template <int Columns> void store(const __m512 sums[Columns], const Results & out, int64_t column) {
    for (int c = 0; c < Columns; ++c) {
        _mm512_mask_storeu_ps(out.to + (column + c) * out.stride, out.rows, sums[c]);
    }
}

// The blocks of a panel straight from the file's bytes: for so few columns that each is needed once.
template <typename Type> struct FromFile {
    Panel panel;
    const char * next;  // the panel after this one
    const Tile & get(int64_t block, Tile & tile) const {
        // Rows are read side by side, which no prefetcher of the processor's own sees through.
        const char * ahead = next + static_cast<size_t>(block) * Type::size * panel_rows;
        for (size_t at = 0; at < Type::size * panel_rows; at += 64) {
            _mm_prefetch(ahead + at, _MM_HINT_T0);
        }
        Type::unpack(panel, static_cast<size_t>(block) * Type::size, tile);
        return tile;
    }
};

// The same, unpacked before.
template <typename Type> struct FromScratch {
    const Tile * tiles;
    const Tile & get(int64_t block, Tile &) const { return tiles[block]; }
};

template <typename Type, int Columns, typename Source>
void multiply_panel(const Source & source, const Activations & in, int64_t column, const Results & out) {
    __m512 sums[Columns];
    for (__m512 & sum : sums) {
        sum = _mm512_setzero_ps();
    }
    for (int64_t block = 0; block < in.n / block_numbers; ++block) {
        Tile space;
        multiply<Type, Columns>(source.get(block, space), in, column, block, sums);
    }
    store<Columns>(sums, out, column);
}

template <typename Type, typename Source>
void multiply_columns(const Source & source, const Activations & in, int64_t column, int64_t count, const Results & out) {
    switch (count) {
        case 1: return multiply_panel<Type, 1>(source, in, column, out);
        case 2: return multiply_panel<Type, 2>(source, in, column, out);
        case 3: return multiply_panel<Type, 3>(source, in, column, out);
        case 4: return multiply_panel<Type, 4>(source, in, column, out);
        case 5: return multiply_panel<Type, 5>(source, in, column, out);
        case 6: return multiply_panel<Type, 6>(source, in, column, out);
        case 7: return multiply_panel<Type, 7>(source, in, column, out);
        default: return multiply_panel<Type, most_columns>(source, in, column, out);
    }
}

template <typename Type>
void multiply_rows(
    const Panel & panel, const char * next, const Activations & in, int64_t n_columns, const Results & out, Tile * scratch) {
    if (n_columns <= most_columns) {
        return multiply_columns<Type>(FromFile<Type>{panel, next}, in, 0, n_columns, out);
    }
    for (int64_t block = 0; block < in.n / block_numbers; ++block) {
        Type::unpack(panel, static_cast<size_t>(block) * Type::size, scratch[block]);
    }
    for (int64_t column = 0; column < n_columns; column += most_columns) {
        multiply_columns<Type>(
            FromScratch<Type>{scratch}, in, column, std::min(most_columns, n_columns - column), out);
    }
}

using MultiplyRows = void (*)(const Panel &, const char *, const Activations &, int64_t, const Results &, Tile *);

MultiplyRows multiplier(ggml_type type) {
    switch (type) {
        case GGML_TYPE_Q4_0: return multiply_rows<Q4_0>;
        case GGML_TYPE_Q4_1: return multiply_rows<Q4_1>;
        case GGML_TYPE_Q5_0: return multiply_rows<Q5_0>;
        case GGML_TYPE_Q5_1: return multiply_rows<Q5_1>;
        case GGML_TYPE_Q8_0: return multiply_rows<Q8_0>;
        default: return nullptr;
    }
}

Activations activations(const ggml_tensor * node, void * work) {
    const auto address = reinterpret_cast<uintptr_t>(work);
    const int64_t n = node->src[0]->ne[0];
    return {reinterpret_cast<const char *>((address + 63) / 64 * 64), n, Activations::stride_of(n)};
}

size_t scratch_size(int64_t n) { return static_cast<size_t>(n / block_numbers) * sizeof(Tile); }

// This thread's share of the blocks of all columns.
void quantize_share(const ggml_compute_params & params, const ggml_tensor * from, const Activations & to) {
    const int64_t n_blocks = to.n / block_numbers;
    const int64_t all = n_blocks * from->ne[1];
    int64_t at = all * params.ith / params.nth;
    const int64_t end = all * (params.ith + 1) / params.nth;
    while (at < end) {
        const int64_t column = at / n_blocks;
        const int64_t first = at % n_blocks;
        const int64_t count = std::min(n_blocks - first, end - at);
        const char * floats = static_cast<const char *>(from->data) + static_cast<size_t>(column) * from->nb[1];
        char * blocks = const_cast<char *>(to.data) + static_cast<size_t>(column) * to.stride;
        quantize_blocks(reinterpret_cast<const float *>(floats), blocks, to.n, first, count);
        at += count;
    }
}

}  // namespace

bool PanelMatmul::takes(const ggml_tensor * node) {
    if (node->op != GGML_OP_MUL_MAT) {
        return false;
    }
    const ggml_tensor * matrix = node->src[0];
    const ggml_tensor * columns = node->src[1];
    return multiplier(matrix->type) && matrix->buffer && ggml_backend_buffer_is_host(matrix->buffer) &&
           columns->type == GGML_TYPE_F32 && node->type == GGML_TYPE_F32 && columns->nb[0] == sizeof(float) &&
           node->nb[0] == sizeof(float) && node->nb[1] % sizeof(float) == 0 && matrix->ne[2] * matrix->ne[3] == 1 &&
           columns->ne[2] * columns->ne[3] == 1 && matrix->nb[0] == ggml_type_size(matrix->type) &&
           matrix->nb[1] * panel_rows < INT32_MAX && ggml_get_op_params_i32(node, 1) == 0;  // no hint for another way
}

bool PanelMatmul::work_size(int n_threads, const ggml_tensor * node, size_t & size) {
    const int64_t n = node->src[0]->ne[0];
    const int64_t n_columns = node->src[1]->ne[1];
    size = 64 + static_cast<size_t>(n_columns) * Activations::stride_of(n);
    if (n_columns > most_columns) {
        size += static_cast<size_t>(n_threads) * scratch_size(n);
    }
    return true;
}

bool PanelMatmul::compute_forward(ggml_compute_params * params, ggml_tensor * node) {
    if (params->use_ref) {
        return false;
    }
    const ggml_tensor * matrix = node->src[0];
    const Activations in = activations(node, params->wdata);
    const int64_t n_columns = node->src[1]->ne[1];
    const int64_t n_panels = (matrix->ne[1] + panel_rows - 1) / panel_rows;
    const int64_t n_chunks = std::min<int64_t>(n_panels, params->nth * chunks_a_thread);
    char * after = const_cast<char *>(in.data) + static_cast<size_t>(n_columns) * in.stride;
    auto * scratch = reinterpret_cast<Tile *>(after + static_cast<size_t>(params->ith) * scratch_size(in.n));
    const MultiplyRows multiply_rows = multiplier(matrix->type);

    quantize_share(*params, node->src[1], in);
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
    for (int64_t chunk = params->ith; chunk < n_chunks; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t end = n_panels * (chunk + 1) / n_chunks;
        for (int64_t panel = n_panels * chunk / n_chunks; panel < end; ++panel) {
            const int64_t row = panel * panel_rows;
            const int64_t n_rows = std::min(panel_rows, matrix->ne[1] - row);
            const char * first = static_cast<const char *>(matrix->data) + static_cast<size_t>(row) * matrix->nb[1];
            const Results out{
                static_cast<float *>(node->data) + row, static_cast<int64_t>(node->nb[1] / sizeof(float)),
                static_cast<__mmask16>((1u << n_rows) - 1)};
            multiply_rows(Panel(first, matrix->nb[1], n_rows), first + panel_rows * matrix->nb[1], in, n_columns, out, scratch);
        }
    }
    return true;
}

}  // namespace shimmy

#endif
