// The parameters of a context, checked and in llama.cpp's form.
#include "context.h"
#include "error.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>

using namespace shimmy;

namespace {

ggml_type kv_type(const char * name, const char * param) {
    require_param(name != nullptr, param, "must not be NULL");
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                 GGML_TYPE_IQ4_NL, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1}) {
        if (std::strcmp(ggml_type_name(type), name) == 0) {
            return type;
        }
    }
    throw Error(SHIMMY_E_INVALID,
                std::string(param) + " must be f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl, not " + name, param);
}

// The size of a head's keys and values; 0 where the file does not say it in one number.
int64_t head_size(const llama_model * model, const char * which) {
    char text[64] = "";
    llama_model_meta_val_str(model, "general.architecture", text, sizeof text);
    const std::string key = std::string(text) + ".attention." + which + "_length";
    if (llama_model_meta_val_str(model, key.c_str(), text, sizeof text) > 0) {
        return std::atoll(text);
    }
    const int32_t n_head = llama_model_n_head(model);
    return n_head > 0 ? llama_model_n_embd(model) / n_head : 0;
}

void check_cache_type(const llama_model * model, ggml_type type, const char * side, const char * which) {
    const int64_t size = head_size(model, which);
    if (ggml_is_quantized(type) && size % ggml_blck_size(type) != 0) {
        throw Error(SHIMMY_E_INVALID, std::string(side) + " cache type " + ggml_type_name(type) + " with block size " +
                                          std::to_string(ggml_blck_size(type)) + " does not divide the size of a head, " +
                                          std::to_string(size));
    }
}

}  // namespace

void shimmy::check_cache_types(const llama_model * model, const llama_context_params & p) {
    check_cache_type(model, p.type_k, "K", "key");
    check_cache_type(model, p.type_v, "V", "value");
}

llama_context_params shimmy::to_llama(const shimmy_context_params & p) {
    const int32_t max_sequences = static_cast<int32_t>(llama_max_parallel_sequences());
    require_param(p.n_ctx >= 0, "n_ctx", "must be at least 0");
    require_param(p.n_batch >= 1 && p.n_batch <= 65536, "n_batch", "must be 1..65536");
    require_param(p.n_ubatch >= 1 && p.n_ubatch <= p.n_batch, "n_ubatch", "must be 1..n_batch");
    require_param(p.n_seq_max >= 1 && p.n_seq_max <= max_sequences, "n_seq_max", "must be 1..256");
    require_param(p.n_outputs_max >= p.n_seq_max, "n_outputs_max", "must be at least n_seq_max");
    require_param(p.n_threads >= 1 && p.n_threads <= GGML_MAX_N_THREADS, "n_threads", "must be 1..512");
    require_param(p.n_threads_batch >= 1 && p.n_threads_batch <= GGML_MAX_N_THREADS, "n_threads_batch", "must be 1..512");
    require_param(p.spin >= 0 && p.spin <= 100, "spin", "must be 0..100");
    require_param(p.flash_attn >= -1 && p.flash_attn <= 1, "flash_attn", "must be -1, 0 or 1");
    require_param(p.device_sampling >= -1 && p.device_sampling <= 1, "device_sampling", "must be -1, 0 or 1");
    require_param(p.rope_scaling_type >= -1 && p.rope_scaling_type <= LLAMA_ROPE_SCALING_TYPE_MAX_VALUE, "rope_scaling_type",
                  "must be -1..3");
    require_param(std::isfinite(p.rope_freq_base) && p.rope_freq_base >= 0.0f, "rope_freq_base", "must be at least 0");
    require_param(std::isfinite(p.rope_freq_scale) && p.rope_freq_scale >= 0.0f, "rope_freq_scale", "must be at least 0");
    require_param(std::isfinite(p.yarn_ext_factor), "yarn_ext_factor", "must be a finite number");
    require_param(std::isfinite(p.yarn_attn_factor), "yarn_attn_factor", "must be a finite number");
    require_param(std::isfinite(p.yarn_beta_fast), "yarn_beta_fast", "must be a finite number");
    require_param(std::isfinite(p.yarn_beta_slow), "yarn_beta_slow", "must be a finite number");
    require_param(p.yarn_orig_ctx >= 0, "yarn_orig_ctx", "must be at least 0");

    llama_context_params out = llama_context_default_params();
    out.n_ctx = static_cast<uint32_t>(p.n_ctx);
    out.n_batch = static_cast<uint32_t>(p.n_batch);
    out.n_ubatch = static_cast<uint32_t>(p.n_ubatch);
    out.n_seq_max = static_cast<uint32_t>(p.n_seq_max);
    out.n_outputs_max = static_cast<uint32_t>(p.n_outputs_max);
    out.n_threads = p.n_threads;
    out.n_threads_batch = p.n_threads_batch;
    out.flash_attn_type = static_cast<llama_flash_attn_type>(p.flash_attn);
    out.type_k = kv_type(p.type_k, "type_k");
    out.type_v = kv_type(p.type_v, "type_v");
    out.rope_scaling_type = static_cast<llama_rope_scaling_type>(p.rope_scaling_type);
    out.rope_freq_base = p.rope_freq_base;
    out.rope_freq_scale = p.rope_freq_scale;
    out.yarn_ext_factor = p.yarn_ext_factor;
    out.yarn_attn_factor = p.yarn_attn_factor;
    out.yarn_beta_fast = p.yarn_beta_fast;
    out.yarn_beta_slow = p.yarn_beta_slow;
    out.yarn_orig_ctx = static_cast<uint32_t>(p.yarn_orig_ctx);
    out.offload_kqv = p.offload_kqv;
    out.op_offload = p.op_offload;
    out.swa_full = p.swa_full;
    out.kv_unified = p.kv_unified;
    out.no_perf = true;
    return out;
}
