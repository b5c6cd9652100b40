// The memory of a context: what may be dropped from its sequences, and copied between them.
#include "context.h"
#include "error.h"

// Internal: no public call tells the kinds apart, or reaches the cells of windowed layers alone.
#include "llama-kv-cache-iswa.h"
#include "llama-memory-hybrid.h"

#include <algorithm>
#include <cstring>
#include <typeinfo>

using namespace shimmy;

namespace {

// NULL: another memory than that of models some of whose layers see a window.
llama_kv_cache_iswa * windowed(llama_memory_t memory) { return dynamic_cast<llama_kv_cache_iswa *>(memory); }

}  // namespace

int32_t shimmy_context::window() const {
    return windowed(memory()) == nullptr ? 0 : llama_model_n_swa(model_.model.get());
}

bool shimmy_context::forks_with_state() const {
    const llama_memory_i & m = *memory();
    return unified_ && (windowed(memory()) != nullptr || typeid(m) == typeid(llama_memory_hybrid));
}

int32_t shimmy_context::last_of_state(int32_t seq_id) const {
    if (const auto * hybrid = dynamic_cast<llama_memory_hybrid *>(memory())) {
        return hybrid->get_mem_recr()->seq_pos_max(seq_id);
    }
    return llama_memory_seq_pos_max(memory(), seq_id);
}

// Cells that have left the window are taken for other tokens, sooner or later; going on without them gives other logits than with them,
// and no error.
void shimmy_context::check_window(int32_t seq_id, int32_t n) const {
    const int32_t first = llama_memory_seq_pos_min(memory(), seq_id);
    require(window() == 0 || first <= std::max(0, n - window() + 1), "the tokens before that position have left the window");
}

// Cells of more than one sequence are not taken back from behind the window by llama.cpp.
int32_t shimmy_context::seq_leave(int32_t seq_id) {
    check_seq(seq_id);
    llama_kv_cache_iswa * memory_ = windowed(memory());
    if (memory_ == nullptr) {
        return 0;
    }
    llama_kv_cache * cells = memory_->get_swa();
    const uint32_t before = cells->get_cells(seq_id).get_used();
    const int32_t first = cells->seq_pos_max(seq_id) - window() + 1;
    if (first > cells->seq_pos_min(seq_id)) {
        cells->seq_rm(seq_id, 0, first);
    }
    return static_cast<int32_t>(before - cells->get_cells(seq_id).get_used());
}

void shimmy_context::seq_remove(int32_t seq_id, int32_t p0, int32_t p1) {
    check_seq(seq_id);
    require(p0 >= 0 && p1 >= -1, "positions must be 0 or more");
    const bool whole = p0 == 0 && p1 < 0;
    if (!whole && p1 < 0 && p0 <= llama_memory_seq_pos_max(memory(), seq_id)) {
        check_window(seq_id, p0);
    }
    require(llama_memory_seq_rm(memory(), seq_id, whole ? -1 : p0, p1), "this memory cannot drop a part of a sequence");
}

// A split cache copies whole streams only and aborts otherwise. A recurrent state has no beginning that could be shared: some
// memories abort, others share the state of the end.
void shimmy_context::seq_copy(int32_t from, int32_t to, int32_t p0, int32_t p1) {
    check_seq(from);
    check_seq(to);
    require(from != to, "a sequence cannot be copied onto itself");
    require(p0 >= 0 && p1 >= -1, "positions must be 0 or more");
    const int32_t end = llama_memory_seq_pos_max(memory(), to) + 1;
    require(end == 0 || (p0 > 0 && end == p0), "the target sequence is neither empty nor ends where the copy begins");
    const int32_t last = llama_memory_seq_pos_max(memory(), from);
    const bool whole = p0 == 0 && (p1 < 0 || p1 > last);
    require(unified_ || whole, "a split KV cache copies whole sequences only");
    const llama_model * m = model_.model.get();
    require(whole || !(llama_model_is_recurrent(m) || llama_model_is_hybrid(m)), "this memory copies whole sequences only");
    if (p0 == 0 && !whole) {
        check_window(from, p1);
    }
    if (end > 0) {
        close_gap(from, to, end);
    }
    llama_memory_seq_cp(memory(), from, to, whole ? -1 : p0, whole ? -1 : p1);
}

// What follows in `from` may begin with its window alone: what `to` holds before that is not seen any more.
void shimmy_context::close_gap(int32_t from, int32_t to, int32_t end) {
    const int32_t first = llama_memory_seq_pos_min(memory(), from);
    llama_kv_cache_iswa * cells = windowed(memory());
    // The next token sees its window less itself; the cell before may be overwritten while the sequence lies idle.
    require(cells == nullptr || first <= std::max(end, llama_memory_seq_pos_max(memory(), from) - window() + 2),
            "the tokens that follow are not there");
    if (cells != nullptr && first > end) {
        cells->get_swa()->seq_rm(to, -1, -1);
    }
}

// Full attention and sliding windows drop any tokens of a sequence's end; of a recurrent state what went into it stays. A window has
// lost what was overwritten since, but only a step's own tokens are ever taken back, and such a step goes into one piece (check_runs):
// that a split cache would cut by its sequences' lengths.
bool shimmy_context::can_take_back() const {
    const char * kind = memory_kind();
    return std::strcmp(kind, "attention") == 0 || (std::strcmp(kind, "sliding_window") == 0 && unified_);
}

// Whether so many tokens go into the cells of a window at once. Where they do not, llama.cpp cuts the batch, and what its first piece has
// pushed out of a window may be overwritten by the second, although the first is taken back again (llama_kv_cache_iswa::init_batch).
bool shimmy_context::fits_in_one_piece(int32_t n) const {
    const llama_kv_cache_iswa * cache = windowed(memory());
    if (cache == nullptr) {
        return true;
    }
    const llama_kv_cells & cells = cache->get_swa()->get_cells(0);
    const uint32_t wanted = static_cast<uint32_t>(n);
    uint32_t found = cells.size() - cells.get_used();
    for (uint32_t i = 0; found < wanted && i < cells.size(); ++i) {
        // As llama_kv_cache::find_slot: what the next token of its only sequence does not see.
        if (!cells.is_empty(i) && cells.seq_count(i) == 1) {
            found += cells.pos_get(i) <= cells.seq_pos_max(cells.seq_get(i)) + 1 - window() ? 1 : 0;
        }
    }
    return found >= wanted;
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
