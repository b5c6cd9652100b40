// Single nodes of a graph on the CPU, by our own kernels (native/cpu_kernels.h) or by ggml's reference.
#include "chain.h"

#include "cpu_kernels.h"
#include "panel_matmul.h"
#include "cpu_attention.h"

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <cstring>
#include <memory>
#include <vector>

namespace {

struct Free {
    void operator()(ggml_context * context) const { ggml_free(context); }
    void operator()(ggml_backend * backend) const { ggml_backend_free(backend); }
    void operator()(ggml_backend_buffer * buffer) const { ggml_backend_buffer_free(buffer); }
};

// A graph of one node whose inputs lie in host memory.
class Node {
  public:
    Node() : context_(ggml_init({ggml_tensor_overhead() * 16 + ggml_graph_overhead(), nullptr, true})), backend_(ggml_backend_cpu_init()) {}

    ggml_context * context() const { return context_.get(); }

    // Each tensor in a buffer of its own: the address sanitizer sees what reads past the end of one.
    void allocate() {
        ggml_backend_buffer_type_t type = ggml_backend_cpu_buffer_type();
        for (ggml_tensor * t = ggml_get_first_tensor(context_.get()); t; t = ggml_get_next_tensor(context_.get(), t)) {
            if (t->view_src) {
                continue;
            }
            buffers_.emplace_back(ggml_backend_buft_alloc_buffer(type, ggml_backend_buft_get_alloc_size(type, t)));
            ggml_backend_tensor_alloc(buffers_.back().get(), t, ggml_backend_buffer_get_base(buffers_.back().get()));
        }
    }

    bool compute(ggml_tensor * node, int n_threads, bool ours) {
        ggml_backend_cpu_set_n_threads(backend_.get(), n_threads);
        ggml_backend_cpu_set_use_ref(backend_.get(), !ours);
        ggml_cgraph * graph = ggml_new_graph(context_.get());
        ggml_build_forward_expand(graph, node);
        return ggml_backend_graph_compute(backend_.get(), graph) == GGML_STATUS_SUCCESS;
    }

  private:
    std::unique_ptr<ggml_context, Free> context_;
    std::unique_ptr<ggml_backend, Free> backend_;
    std::vector<std::unique_ptr<ggml_backend_buffer, Free>> buffers_;
};

ggml_tensor * input(const Node & node, ggml_type type, int64_t a, int64_t b, int64_t c = 1) {
    return ggml_new_tensor_3d(node.context(), type, a, b, c);
}

void fill(ggml_tensor * tensor, const void * from) {
    if (tensor) {
        std::memcpy(tensor->data, from, ggml_nbytes(tensor));
    }
}

int result(bool computed, bool taken, const ggml_tensor * node, float * out) {
    if (!computed) {
        return -1;
    }
    std::memcpy(out, node->data, ggml_nbytes(node));
    return taken ? 1 : 0;
}

#ifdef SHIMMY_PANELS
bool matmul_taken(const ggml_tensor * node) { return shimmy::PanelMatmul::takes(node); }
bool attention_taken(const ggml_tensor * node) { return shimmy::CpuAttention::takes(node); }
#else
bool matmul_taken(const ggml_tensor *) { return false; }
bool attention_taken(const ggml_tensor *) { return false; }
#endif

}  // namespace

int chain_matmul(int32_t type, int64_t n, int64_t n_rows, int64_t n_columns, const void * matrix, const float * columns,
                 float * out, int32_t n_threads, int ours) {
    shimmy::install_cpu_kernels();
    Node graph;
    ggml_tensor * weights = input(graph, static_cast<ggml_type>(type), n, n_rows);
    ggml_tensor * in = input(graph, GGML_TYPE_F32, n, n_columns);
    ggml_tensor * node = ggml_mul_mat(graph.context(), weights, in);
    graph.allocate();
    fill(weights, matrix);
    fill(in, columns);
    return result(graph.compute(node, n_threads, ours != 0), matmul_taken(node), node, out);
}

int chain_attention(const chain_attention_shape * shape, const float * queries, const uint16_t * keys, const uint16_t * values,
                    const uint16_t * mask, const float * sinks, float * out, int32_t n_threads, int ours) {
    shimmy::install_cpu_kernels();
    Node graph;
    ggml_tensor * q = input(graph, GGML_TYPE_F32, shape->n_keys, shape->n_queries, shape->n_heads);
    ggml_tensor * k = input(graph, GGML_TYPE_F16, shape->n_keys, shape->n_cells, shape->n_key_heads);
    ggml_tensor * v = input(graph, GGML_TYPE_F16, shape->n_values, shape->n_cells, shape->n_key_heads);
    ggml_tensor * m = mask ? input(graph, GGML_TYPE_F16, shape->n_cells, shape->n_queries) : nullptr;
    ggml_tensor * s = sinks ? ggml_new_tensor_1d(graph.context(), GGML_TYPE_F32, shape->n_heads) : nullptr;
    ggml_tensor * node = ggml_flash_attn_ext(graph.context(), q, k, v, m, shape->scale, shape->max_bias, 0.0f);
    ggml_flash_attn_ext_add_sinks(node, s);
    graph.allocate();
    fill(q, queries);
    fill(k, keys);
    fill(v, values);
    fill(m, mask);
    fill(s, sinks);
    return result(graph.compute(node, n_threads, ours != 0), attention_taken(node), node, out);
}
