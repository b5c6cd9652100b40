#include "row_attention.h"

#ifdef SHIMMY_PANELS

#include "attention_heads.h"
#include "attention_shape.h"
#include "ggml-cpu/ggml-cpu-impl.h"

#include <algorithm>

namespace shimmy {
namespace {

constexpr int64_t most_queries = 63;  // from 64 on ggml multiplies tiles of queries and keys
constexpr uint16_t half_minus_infinity = 0xfc00;

template <typename T> T * take(char *& at, size_t count) {
    auto * taken = reinterpret_cast<T *>(at);
    at += aligned(count * sizeof(T));
    return taken;
}

// What one thread works with.
class Worker {
  public:
    Worker(const AttentionShape & shape, char * scratch) : shape_(shape) {
        char * at = scratch;
        cells_ = take<int32_t>(at, static_cast<size_t>(shape.k->ne[1] + 16));
        scratch_.products = take<__m512>(at, most_heads * 16);
        scratch_.weights = take<float>(at, most_heads * 16);
        scratch_.queries = take<float>(at, static_cast<size_t>(most_heads * shape.k->ne[0]));
        scratch_.values = take<float>(at, static_cast<size_t>(most_heads * shape.v->ne[0]));
    }

    // One group of heads of one query over a part of its cells. `partials`: of this unit's first head and this part, or null where
    // the result is final.
    void work(int64_t unit, int64_t part, int64_t parts, char * partials) {
        const int64_t group = unit % shape_.n_groups;
        const int64_t query = unit / shape_.n_groups % shape_.n_queries;
        const int64_t stream = unit / shape_.n_groups / shape_.n_queries;
        const int64_t key = group / shape_.groups_a_key;
        const int64_t first = key * shape_.heads_a_key + group % shape_.groups_a_key * most_heads;
        const int64_t n = std::min<int64_t>(most_heads, (key + 1) * shape_.heads_a_key - first);
        list_cells(query, stream);
        switch (n) {
            case 1: return attend_part<1>(query, stream, key, first, part, parts, partials);
            case 2: return attend_part<2>(query, stream, key, first, part, parts, partials);
            case 3: return attend_part<3>(query, stream, key, first, part, parts, partials);
            default: return attend_part<most_heads>(query, stream, key, first, part, parts, partials);
        }
    }

    // One head of one query from its parts.
    void combine(int64_t head, int64_t query, int64_t stream, int64_t parts, const char * partials) {
        HeadState all{-INFINITY, 0.0f};
        const int64_t n = shape_.v->ne[0];
        std::fill_n(scratch_.values, n, 0.0f);
        for (int64_t part = 0; part < parts; ++part) {
            const auto * from = reinterpret_cast<const float *>(partials + static_cast<size_t>(part) * shape_.partial_size());
            if (from[0] == -INFINITY) {
                continue;
            }
            const float largest = std::max(all.largest, from[0]);
            const float shrink = std::exp2(all.largest - largest), grow = std::exp2(from[0] - largest);
            for (int64_t i = 0; i < n; ++i) {
                scratch_.values[i] = scratch_.values[i] * shrink + from[2 + i] * grow;
            }
            all = {largest, all.sum * shrink + from[1] * grow};
        }
        finish(all, scratch_.values, head, query, stream);
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
            const ggml_tensor * mask = shape_.mask;
            mask_ = reinterpret_cast<const uint16_t *>(
                static_cast<const char *>(mask->data) + static_cast<size_t>(query) * mask->nb[1] +
                static_cast<size_t>(stream % mask->ne[3]) * mask->nb[3]);
            list_unmasked(n);
        }
        for (int32_t i = n_cells_; n_cells_ > 0 && i % 16; ++i) {
            cells_[i] = cells_[n_cells_ - 1];
        }
    }

    void list_unmasked(int32_t n) {
        const __m512i none = _mm512_set1_epi16(static_cast<int16_t>(half_minus_infinity));
        const __m512i ascending = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        for (int32_t at = 0; at < n; at += 32) {
            const __mmask32 in = n - at >= 32 ? ~__mmask32{0} : (__mmask32{1} << (n - at)) - 1;
            const __m512i halves = _mm512_maskz_loadu_epi16(in, mask_ + at);
            const __mmask32 seen = _mm512_mask_cmpneq_epi16_mask(in, halves, none);
            if (!seen) {
                continue;
            }
            // Zero, or the zero with a sign: nothing is to be added to the scores.
            weighted_ |= _mm512_mask_test_epi16_mask(seen, halves, _mm512_set1_epi16(0x7fff)) != 0;
            for (int half = 0; half < 2; ++half) {
                const auto some = static_cast<__mmask16>(seen >> (16 * half));
                const __m512i numbers = _mm512_add_epi32(ascending, _mm512_set1_epi32(at + 16 * half));
                _mm512_storeu_si512(cells_ + n_cells_, _mm512_maskz_compress_epi32(some, numbers));
                n_cells_ += __builtin_popcount(some);
            }
        }
    }

    template <int Heads>
    void attend_part(
        int64_t query, int64_t stream, int64_t key, int64_t first, int64_t part, int64_t parts, char * partials) {
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
        const auto end = static_cast<int32_t>(n_tiles * (part + 1) / parts);
        for (auto tile = static_cast<int32_t>(n_tiles * part / parts); tile < end; ++tile) {
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
            const float * result = scratch_.values + h * values.n;
            if (!partials) {
                finish(states[h], result, first + h, query, stream);
                continue;
            }
            auto * to = reinterpret_cast<float *>(partials + static_cast<size_t>(h * parts) * shape_.partial_size());
            to[0] = states[h].largest;
            to[1] = states[h].sum;
            std::copy_n(result, values.n, to + 2);
        }
    }

    __m512 biases_of(const int32_t cells[16]) const {
        alignas(32) uint16_t halves[16];
        for (int t = 0; t < 16; ++t) {
            halves[t] = mask_[cells[t]];
        }
        return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i *>(halves)));
    }

    static Cells16 cells_of(const ggml_tensor * tensor, int64_t key, int64_t stream) {
        const char * data = static_cast<const char *>(tensor->data) + static_cast<size_t>(key) * tensor->nb[2] +
                            static_cast<size_t>(stream) * tensor->nb[3];
        return {data, tensor->nb[1], tensor->ne[0]};
    }

    void finish(HeadState state, const float * values, int64_t head, int64_t query, int64_t stream) const {
        float shrink = 1.0f;
        if (shape_.sinks) {
            const float sink = static_cast<const float *>(shape_.sinks->data)[head] * log2_e;
            const float largest = std::max(state.largest, sink);
            shrink = std::exp2(state.largest - largest);
            state.sum = state.sum * shrink + std::exp2(sink - largest);
        }
        const float factor = state.sum == 0.0f ? 0.0f : shrink / state.sum;
        const ggml_tensor * to = shape_.to;
        auto * out = reinterpret_cast<float *>(
            static_cast<char *>(to->data) +
            static_cast<size_t>((stream * to->ne[2] + query) * to->ne[1] + head) * to->nb[1]);
        for (int64_t i = 0; i < shape_.v->ne[0]; ++i) {
            out[i] = values[i] * factor;
        }
    }

    const AttentionShape & shape_;
    HeadScratch scratch_{};
    int32_t * cells_ = nullptr;
    int32_t n_cells_ = 0;
    int64_t query_ = -1, stream_ = -1;  // whose cells are listed
    const uint16_t * mask_ = nullptr;   // of that query
    bool weighted_ = false;             // whether its mask holds more than "seen" and "not seen"
};

}  // namespace

bool RowAttention::takes(const ggml_tensor * node) {
    if (node->op != GGML_OP_FLASH_ATTN_EXT) {
        return false;
    }
    const AttentionShape shape(node);
    const ggml_tensor *q = shape.q, *k = shape.k, *v = shape.v;
    return q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && q->nb[0] == 4 &&
           k->nb[0] == 2 && v->nb[0] == 2 && shape.n_queries <= most_queries && k->ne[0] % 16 == 0 && v->ne[0] % 16 == 0 &&
           k->ne[2] == v->ne[2] && k->ne[3] == v->ne[3] && k->ne[3] == q->ne[3] && k->ne[1] < INT32_MAX - 32 && shape.plain &&
           (!shape.mask || (shape.mask->type == GGML_TYPE_F16 && shape.mask->ne[2] == 1)) && node->nb[0] == sizeof(float);
}

bool RowAttention::work_size(int n_threads, const ggml_tensor * node, size_t & size) {
    const AttentionShape shape(node);
    // Fewer threads than announced may come, and then there are no more parts than for these.
    size = 64 + static_cast<size_t>(n_threads) * shape.scratch_size();
    size_t most = 0;
    for (int n = 1; n <= n_threads; ++n) {
        most = std::max(most, shape.partials_size(n));
    }
    size += most;
    return true;
}

bool RowAttention::compute_forward(ggml_compute_params * params, ggml_tensor * node) {
    if (params->use_ref) {
        return false;
    }
    const AttentionShape shape(node);
    const int n_threads = params->nth;
    auto * work = reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(params->wdata) + 63) / 64 * 64);
    Worker worker(shape, work + static_cast<size_t>(params->ith) * shape.scratch_size());
    char * partials = work + static_cast<size_t>(n_threads) * shape.scratch_size();
    const int64_t parts = shape.parts(n_threads);
    const int64_t n_chunks = shape.n_units * parts;
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, n_threads);
    }
    ggml_barrier(params->threadpool);
    for (int64_t chunk = params->ith; chunk < n_chunks; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t unit = chunk / parts, part = chunk % parts;
        if (parts == 1) {
            worker.work(unit, 0, 1, nullptr);
            continue;
        }
        const int64_t group = unit % shape.n_groups;
        const int64_t head = group / shape.groups_a_key * shape.heads_a_key + group % shape.groups_a_key * most_heads;
        const int64_t at = (unit / shape.n_groups * shape.n_heads + head) * parts + part;
        worker.work(unit, part, parts, partials + static_cast<size_t>(at) * shape.partial_size());
    }
    if (parts > 1) {
        ggml_barrier(params->threadpool);
        for (int64_t row = params->ith; row < shape.n_streams * shape.n_queries * shape.n_heads; row += n_threads) {
            const int64_t query = row / shape.n_heads;
            worker.combine(
                row % shape.n_heads, query % shape.n_queries, query / shape.n_queries, parts,
                partials + static_cast<size_t>(row * parts) * shape.partial_size());
        }
    }
    return true;
}

}  // namespace shimmy

#endif
