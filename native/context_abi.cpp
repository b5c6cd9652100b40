// The C ABI of contexts: shimmy_context_* (context.cpp does the work).
#include "context.h"
#include "devices.h"
#include "error.h"
#include "json.h"
#include "shimmy.h"

using namespace shimmy;

extern "C" {

void shimmy_context_default_params(shimmy_context_params * out) {
    const llama_context_params p = llama_context_default_params();
    *out = shimmy_context_params{};
    out->n_ctx = 0;
    out->n_batch = 2048;
    out->n_ubatch = 512;
    out->n_seq_max = 64;
    out->n_outputs_max = 64;
    out->n_threads = p.n_threads;
    out->n_threads_batch = p.n_threads_batch;
    out->spin = 0;
    out->flash_attn = p.flash_attn_type;
    out->type_k = ggml_type_name(p.type_k);
    out->type_v = ggml_type_name(p.type_v);
    out->rope_scaling_type = p.rope_scaling_type;
    out->rope_freq_base = p.rope_freq_base;
    out->rope_freq_scale = p.rope_freq_scale;
    out->yarn_ext_factor = p.yarn_ext_factor;
    out->yarn_attn_factor = p.yarn_attn_factor;
    out->yarn_beta_fast = p.yarn_beta_fast;
    out->yarn_beta_slow = p.yarn_beta_slow;
    out->yarn_orig_ctx = static_cast<int32_t>(p.yarn_orig_ctx);
    out->offload_kqv = p.offload_kqv;
    out->op_offload = p.op_offload;
    out->swa_full = false;
    out->kv_unified = true;
}

int32_t shimmy_context_new(const shimmy_model * model, const shimmy_context_params * params, shimmy_context ** out) {
    return guarded([&] {
        require(model != nullptr && params != nullptr && out != nullptr, "a pointer is NULL");
        *out = new shimmy_context(*model, *params);
    });
}

void shimmy_context_free(shimmy_context * context) { delete context; }

int32_t shimmy_context_facts(const shimmy_context * context, char ** out) {
    return guarded([&] {
        require(context != nullptr && out != nullptr, "a pointer is NULL");
        llama_context * c = context->get();
        common_json facts = common_json::object();
        facts["n_ctx"] = llama_n_ctx(c);
        facts["n_ctx_seq"] = llama_n_ctx_seq(c);
        facts["n_batch"] = llama_n_batch(c);
        facts["n_ubatch"] = llama_n_ubatch(c);
        facts["n_seq_max"] = llama_n_seq_max(c);
        facts["n_threads"] = llama_n_threads(c);
        facts["n_threads_batch"] = llama_n_threads_batch(c);
        facts["kv_unified"] = context->unified();
        facts["device_sampling"] = context->samples_on_device();
        facts["memory_kind"] = context->memory_kind();
        facts["window"] = context->window();
        facts["forks_with_state"] = context->forks_with_state();
        facts["memory"] = memory_of(c);
        *out = copy_string(facts.dump_safe());
    });
}

int32_t shimmy_context_set_threads(shimmy_context * context, int32_t n_threads, int32_t n_threads_batch) {
    return guarded([&] {
        require(context != nullptr, "context is NULL");
        context->set_threads(n_threads, n_threads_batch);
    });
}

int32_t shimmy_context_set_adapters(shimmy_context * context, shimmy_adapter * const * adapters, const float * scales,
                                    int32_t n) {
    return guarded([&] {
        require(context != nullptr, "context is NULL");
        context->set_adapters(adapters, scales, n);
    });
}

void shimmy_context_interrupt(shimmy_context * context, bool on) {
    if (context != nullptr) {
        context->interrupted = on;
    }
}

int32_t shimmy_context_step(shimmy_context * context, const shimmy_step_batch * batch, shimmy_step_result * out) {
    return guarded([&] {
        require(context != nullptr && batch != nullptr && out != nullptr, "a pointer is NULL");
        context->step(*batch, *out);
    });
}

int32_t shimmy_context_repeat(shimmy_context * context, shimmy_step_result * out) {
    return guarded([&] {
        require(context != nullptr && out != nullptr, "a pointer is NULL");
        context->repeat(*out);
    });
}

int32_t shimmy_context_stream(shimmy_context * context, const shimmy_stream_run * runs, int32_t n_runs) {
    return guarded([&] {
        require(context != nullptr && runs != nullptr, "a pointer is NULL");
        context->stream(runs, n_runs);
    });
}

int32_t shimmy_context_streamed(const shimmy_context * context, const int32_t ** tokens, int32_t * n_tokens) {
    return guarded([&] {
        require(context != nullptr && tokens != nullptr && n_tokens != nullptr, "a pointer is NULL");
        *tokens = context->streamed().data();
        *n_tokens = static_cast<int32_t>(context->streamed().size());
    });
}

void shimmy_context_clock(const shimmy_context * context, shimmy_clock * out) {
    if (context != nullptr && out != nullptr) {
        *out = shimmy_clock{context->steps, context->decode_ns, context->sample_ns};
    }
}

int32_t shimmy_context_watch(shimmy_context * context, float chance) {
    return guarded([&] {
        require(context != nullptr && chance > 0.0f, "a chance is above 0");
        context->watch(chance);
    });
}

const float * shimmy_context_logits(shimmy_context * context, int32_t row) {
    return context == nullptr ? nullptr : context->logits(row);
}

int32_t shimmy_context_seq_remove(shimmy_context * context, int32_t seq_id, int32_t p0, int32_t p1) {
    return guarded([&] {
        require(context != nullptr, "context is NULL");
        context->seq_remove(seq_id, p0, p1);
    });
}

int32_t shimmy_context_seq_copy(shimmy_context * context, int32_t from, int32_t to, int32_t p0, int32_t p1) {
    return guarded([&] {
        require(context != nullptr, "context is NULL");
        context->seq_copy(from, to, p0, p1);
    });
}

int32_t shimmy_context_seq_leave(shimmy_context * context, int32_t seq_id, int32_t * n_freed) {
    return guarded([&] {
        require(context != nullptr && n_freed != nullptr, "a pointer is NULL");
        *n_freed = context->seq_leave(seq_id);
    });
}

int32_t shimmy_context_seq_range(shimmy_context * context, int32_t seq_id, int32_t * first, int32_t * last) {
    return guarded([&] {
        require(context != nullptr && first != nullptr && last != nullptr, "a pointer is NULL");
        context->check_seq(seq_id);
        *first = llama_memory_seq_pos_min(context->memory(), seq_id);
        *last = llama_memory_seq_pos_max(context->memory(), seq_id);
    });
}

int32_t shimmy_context_clear(shimmy_context * context) {
    return guarded([&] {
        require(context != nullptr, "context is NULL");
        llama_memory_clear(context->memory(), false);
    });
}

}  // extern "C"
