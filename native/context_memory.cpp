// The memory of a context: what may be dropped from its sequences, and copied between them.
#include "context.h"
#include "error.h"

#include <cstring>

using namespace shimmy;

void shimmy_context::seq_remove(int32_t seq_id, int32_t p0, int32_t p1) {
    check_seq(seq_id);
    require(p0 >= 0 && p1 >= -1, "positions must be 0 or more");
    const bool whole = p0 == 0 && p1 < 0;
    require(llama_memory_seq_rm(memory(), seq_id, whole ? -1 : p0, p1), "this memory cannot drop a part of a sequence");
}

// A split cache copies whole streams only and aborts otherwise. A recurrent state has no beginning that could be shared: some
// memories abort, others share the state of the end.
void shimmy_context::seq_copy(int32_t from, int32_t to, int32_t p0, int32_t p1) {
    check_seq(from);
    check_seq(to);
    require(from != to, "a sequence cannot be copied onto itself");
    require(p0 >= 0 && p1 >= -1, "positions must be 0 or more");
    require(llama_memory_seq_pos_max(memory(), to) < 0, "the target sequence is not empty");
    const int32_t last = llama_memory_seq_pos_max(memory(), from);
    const bool whole = p0 == 0 && (p1 < 0 || p1 > last);
    require(unified_ || whole, "a split KV cache copies whole sequences only");
    const llama_model * m = model_.model.get();
    require(whole || !(llama_model_is_recurrent(m) || llama_model_is_hybrid(m)), "this memory copies whole sequences only");
    llama_memory_seq_cp(memory(), from, to, whole ? -1 : p0, whole ? -1 : p1);
}

const char * shimmy_context::memory_kind() const {
    const llama_model * m = model_.model.get();
    if (llama_model_is_hybrid(m)) {
        return "hybrid";
    }
    if (llama_model_is_recurrent(m)) {
        return "recurrent";
    }
    if (llama_model_n_swa(m) > 0) {
        return "sliding_window";
    }
    // These attend to a selection of tokens and have a cache of their own for choosing them (llama_kv_cache_dsa, _msa): whether
    // that can be shared from any position is not known.
    char architecture[64] = "";
    llama_model_meta_val_str(m, "general.architecture", architecture, sizeof architecture);
    for (const char * selective : {"minimax-m3", "glm-dsa", "deepseek32", "glm5-next", "hy_v4", "dots3note"}) {
        if (std::strcmp(architecture, selective) == 0) {
            return "other";
        }
    }
    return "attention";
}
