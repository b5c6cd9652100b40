// The kernels' part of exercise.cpp: each input in a buffer of its own, so that a read past its end is seen.
#include "exercise_kernels.h"

#include "chain.h"
#include "check.h"

#include "ggml.h"

#include <cmath>
#include <cstdint>
#include <vector>

namespace {

// Between -1 and 1, the same in each run.
class Numbers {
  public:
    float next() {
        state_ = state_ * 1664525u + 1013904223u;
        return static_cast<float>(state_ >> 8) / 8388608.0f - 1.0f;
    }

    std::vector<float> floats(int64_t n) {
        std::vector<float> out(static_cast<size_t>(n));
        for (float & value : out) {
            value = next();
        }
        return out;
    }

    std::vector<uint16_t> halves(int64_t n) {
        std::vector<uint16_t> out(static_cast<size_t>(n));
        for (uint16_t & value : out) {
            value = ggml_fp32_to_fp16(next());
        }
        return out;
    }

  private:
    uint32_t state_ = 1;
};

void check_near(const std::vector<float> & a, const std::vector<float> & b, float most) {
    for (size_t i = 0; i < a.size(); ++i) {
        CHECK(std::fabs(a[i] - b[i]) <= most);
    }
}

void exercise_matmul(Numbers & numbers, ggml_type type, int64_t n, int64_t n_rows, int64_t n_columns, int32_t n_threads) {
    const std::vector<float> matrix = numbers.floats(n * n_rows);
    std::vector<uint8_t> packed(ggml_row_size(type, n) * static_cast<size_t>(n_rows));
    CHECK(ggml_quantize_chunk(type, matrix.data(), packed.data(), 0, n_rows, n, nullptr) == packed.size());
    const std::vector<float> columns = numbers.floats(n * n_columns);
    std::vector<float> ours(static_cast<size_t>(n_rows * n_columns)), theirs(ours.size());
    CHECK(chain_matmul(type, n, n_rows, n_columns, packed.data(), columns.data(), ours.data(), n_threads, 1) >= 0);
    CHECK(chain_matmul(type, n, n_rows, n_columns, packed.data(), columns.data(), theirs.data(), n_threads, 0) >= 0);
    check_near(ours, theirs, 0.02f * static_cast<float>(n));
}

void exercise_attention(Numbers & numbers, const chain_attention_shape & shape, bool masked, bool sinks, int32_t n_threads) {
    const std::vector<float> queries = numbers.floats(shape.n_keys * shape.n_queries * shape.n_heads);
    const std::vector<uint16_t> keys = numbers.halves(shape.n_keys * shape.n_cells * shape.n_key_heads);
    const std::vector<uint16_t> values = numbers.halves(shape.n_values * shape.n_cells * shape.n_key_heads);
    std::vector<uint16_t> mask(static_cast<size_t>(shape.n_cells * shape.n_queries));
    for (size_t i = 0; i < mask.size(); ++i) {
        mask[i] = ggml_fp32_to_fp16(i % 3 == 1 ? -INFINITY : 0.0f);
    }
    const std::vector<float> drains = numbers.floats(shape.n_heads);
    const uint16_t * m = masked ? mask.data() : nullptr;
    const float * s = sinks ? drains.data() : nullptr;
    std::vector<float> ours(static_cast<size_t>(shape.n_values * shape.n_queries * shape.n_heads)), theirs(ours.size());
    CHECK(chain_attention(&shape, queries.data(), keys.data(), values.data(), m, s, ours.data(), n_threads, 1) >= 0);
    CHECK(chain_attention(&shape, queries.data(), keys.data(), values.data(), m, s, theirs.data(), n_threads, 0) >= 0);
    check_near(ours, theirs, 0.01f);
}

}  // namespace

void exercise_kernels() {
    Numbers numbers;
    for (const ggml_type type : {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q8_0}) {
        for (const int64_t n_columns : {1, 2, 3, 8, 17, 33, 70}) {
            for (const int64_t n_rows : {1, 15, 16, 50}) {
                exercise_matmul(numbers, type, 96, n_rows, n_columns, 1 + static_cast<int32_t>(n_rows % 3));
            }
        }
    }
    for (const int64_t n_cells : {1, 31, 32, 100, 257}) {
        for (const int64_t n_queries : {1, 2, 9, 63}) {
            for (const int64_t n_heads : {1, 3, 9}) {
                const int64_t n_key_heads = n_heads == 9 ? 3 : 1;
                const chain_attention_shape shape = {64, n_heads == 3 ? 80 : 64, n_cells, n_queries, n_heads, n_key_heads, 0.125f,
                                                     n_heads == 9 && n_cells > 1 ? 8.0f : 0.0f};  // a bias needs a mask
                exercise_attention(numbers, shape, n_cells > 1, n_queries == 9, 1 + static_cast<int32_t>(n_queries % 3));
            }
        }
    }
}
