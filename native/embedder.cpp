#include "embedder.h"

#include "context.h"
#include "error.h"

#include <algorithm>
#include <cmath>
#include <string>

using namespace shimmy;

namespace {

bool on_abort(void * data) { return static_cast<const std::atomic<bool> *>(data)->load(std::memory_order_relaxed); }

bool says_memory(const std::string & why) {
    return why.find("alloc") != std::string::npos || why.find("memory") != std::string::npos ||
           why.find("reserve") != std::string::npos;
}

void require_computed(bool condition, const char * message) {
    if (!condition) {
        throw Error(SHIMMY_E_COMPUTE, message);
    }
}

}  // namespace

shimmy_embedder::shimmy_embedder(const shimmy_model & model, const shimmy_context_params & params, bool rank)
    : model_(model), rank_(rank) {
    const llama_model * m = model.model.get();
    width_ = rank ? static_cast<int32_t>(llama_model_n_cls_out(m)) : llama_model_n_embd_out(m);
    // A file without a classifier would give the hidden state, of which llama.cpp then reads one number for each label.
    require(width_ >= 1 && width_ <= llama_model_n_embd_out(m), "the model has more labels than a hidden state has numbers");
    llama_context_params p = to_llama(params);
    require_param(p.n_ubatch == p.n_batch, "n_ubatch", "must be n_batch in an embedding context");
    // llama.cpp gives out every token, and asserts that there is room for all of a batch.
    require_param(params.n_outputs_max >= params.n_batch, "n_outputs_max", "must be at least n_batch in an embedding context");
    p.embeddings = true;
    p.pooling_type = rank ? LLAMA_POOLING_TYPE_RANK : LLAMA_POOLING_TYPE_NONE;
    p.kv_unified = true;  // a split cache needs sequences of one length
    p.abort_callback = on_abort;
    p.abort_callback_data = &interrupted;
    forget_log();
    context_.reset(llama_init_from_model(model.model.get(), p));
    if (!context_) {
        const std::string why = logged_errors();
        throw Error(says_memory(why) ? SHIMMY_E_MEMORY : SHIMMY_E_INVALID,
                    why.empty() ? "llama.cpp could not make an embedding context" : why);
    }
    threads_.attach(context_.get(), params.n_threads, params.n_threads_batch, params.spin);
    whole_ = llama_get_memory(context_.get()) == nullptr || !llama_get_causal_attn(context_.get());
    longest_ = static_cast<int32_t>(whole_ ? llama_n_batch(context_.get()) : llama_n_ctx(context_.get()));
    // Positions beyond the trained ones mean something only where RoPE is scaled; a table of positions is read without a check.
    const bool scaled = params.rope_scaling_type > 0 || params.rope_freq_base > 0.0f || params.rope_freq_scale > 0.0f;
    const bool table = llama_get_memory(context_.get()) == nullptr || llama_model_rope_type(m) == LLAMA_ROPE_TYPE_NONE;
    if ((table || !scaled) && !llama_model_is_recurrent(m) && llama_model_n_ctx_train(m) > 0) {
        longest_ = std::min(longest_, llama_model_n_ctx_train(m));
    }
    sequences_.resize(llama_n_seq_max(context_.get()));
}

const shimmy_embedder::Pooled & shimmy_embedder::check_seq(int32_t seq_id) const {
    require(seq_id >= 0 && static_cast<size_t>(seq_id) < sequences_.size(), "seq_id is not below n_seq_max");
    return sequences_[static_cast<size_t>(seq_id)];
}

void shimmy_embedder::check_run(const shimmy_embed_batch & in, int32_t run) const {
    const int32_t n_held = check_seq(in.seq_ids[run]).n_tokens;
    for (int32_t other = 0; other < run; ++other) {
        require(in.seq_ids[other] != in.seq_ids[run], "a sequence has two runs in one step");
    }
    require(!whole_ || n_held == 0, "this model reads a text whole: its tokens go into one step");
    const int64_t n_all = static_cast<int64_t>(n_held) + in.lengths[run];
    if (n_all > longest_) {
        throw Error(SHIMMY_E_INVALID, "the text has " + std::to_string(n_all) + " tokens and the embedding context holds " +
                                          std::to_string(longest_));
    }
}

// Everything that llama_decode would abort on, or answer with a bare -1.
void shimmy_embedder::check(const shimmy_embed_batch & in) const {
    require(in.n_runs >= 1, "there is nothing to embed");
    require(in.seq_ids && in.lengths && in.tokens, "a pointer is NULL");
    const int64_t n_batch = llama_n_batch(context_.get());
    int64_t n_tokens = 0;
    for (int32_t r = 0; r < in.n_runs; ++r) {
        require(in.lengths[r] >= 1, "a text has no tokens");
        n_tokens += in.lengths[r];
        if (n_tokens > n_batch) {
            throw Error(SHIMMY_E_INVALID, "the step has " + std::to_string(n_tokens) + " tokens or more and the embedding context takes " +
                                              std::to_string(n_batch));
        }
        check_run(in, r);
    }
    for (int64_t i = 0; i < n_tokens; ++i) {
        require(in.tokens[i] >= 0 && in.tokens[i] < model_.n_vocab, "a token id is outside the vocabulary");
    }
}

void shimmy_embedder::fill(const shimmy_embed_batch & in) {
    batch_.clear();
    starts_.clear();
    const int32_t * token = in.tokens;
    for (int32_t r = 0; r < in.n_runs; ++r) {
        starts_.push_back(static_cast<int32_t>(token - in.tokens));
        const int32_t held = check_seq(in.seq_ids[r]).n_tokens;
        for (int32_t k = 0; k < in.lengths[r]; ++k) {
            batch_.add(*token++, held + k, in.seq_ids[r], true);
        }
    }
}

// llama_decode encodes where the model has no memory.
void shimmy_embedder::decode() {
    forget_log();
    const int32_t status = llama_decode(context_.get(), batch_.view());
    if (status == 0) {
        llama_synchronize(context_.get());
        return;
    }
    const std::string why = logged_errors();
    clear();  // what the memory holds of these sequences is not known
    switch (status) {
        case 1:
            throw Error(SHIMMY_E_KV_FULL, "no room in the memory of the embedding context");
        case 2:
            throw Error(SHIMMY_E_CANCELLED, "the step was interrupted");
        default:
            throw Error(says_memory(why) ? SHIMMY_E_MEMORY : SHIMMY_E_COMPUTE,
                        "llama_decode returned " + std::to_string(status) + ": " + why);
    }
}

void shimmy_embedder::pool(const shimmy_embed_batch & in) {
    const size_t width = static_cast<size_t>(width_);
    for (int32_t r = 0; r < in.n_runs; ++r) {
        Pooled & to = sequences_[static_cast<size_t>(in.seq_ids[r])];
        const bool starting = to.n_tokens == 0;
        if (rank_) {
            const float * scores = llama_get_embeddings_seq(context_.get(), in.seq_ids[r]);
            require_computed(scores != nullptr, "the model gave no scores");
            to.last.assign(scores, scores + width);
            to.n_tokens += in.lengths[r];
            continue;
        }
        if (starting) {
            to.sum.assign(width, 0.0);
        }
        for (int32_t k = 0; k < in.lengths[r]; ++k) {
            const float * row = llama_get_embeddings_ith(context_.get(), starts_[static_cast<size_t>(r)] + k);
            require_computed(row != nullptr, "the model gave no hidden states");
            for (size_t j = 0; j < width; ++j) {
                to.sum[j] += static_cast<double>(row[j]);
            }
            if (starting && k == 0) {
                to.first.assign(row, row + width);
            }
            if (k == in.lengths[r] - 1) {
                to.last.assign(row, row + width);
            }
        }
        to.n_tokens += in.lengths[r];
    }
}

void shimmy_embedder::step(const shimmy_embed_batch & in) {
    check(in);
    fill(in);
    decode();
    try {
        pool(in);
    } catch (...) {
        clear();  // some sequences have their tokens, some have not
        throw;
    }
}

void shimmy_embedder::read(int32_t seq_id, int32_t pooling, int32_t n_out, bool normalize, float * out) const {
    const Pooled & from = check_seq(seq_id);
    require(from.n_tokens > 0, "the sequence is empty");
    require_param(n_out >= 1 && n_out <= width_, "dimensions", "must be 1 to the width of the model's vectors");
    if (rank_) {
        require_param(pooling == LLAMA_POOLING_TYPE_RANK, "pooling", "must be rank: the model has a classifier");
    } else {
        require_param(pooling >= LLAMA_POOLING_TYPE_MEAN && pooling <= LLAMA_POOLING_TYPE_LAST, "pooling", "must be mean, cls or last");
    }
    const size_t n_kept = pooling == LLAMA_POOLING_TYPE_MEAN  ? from.sum.size()
                          : pooling == LLAMA_POOLING_TYPE_CLS ? from.first.size()
                                                              : from.last.size();
    require_computed(n_kept == static_cast<size_t>(width_), "nothing was pooled of the sequence");
    double norm = 0.0;
    for (size_t j = 0; j < static_cast<size_t>(n_out); ++j) {
        out[j] = pooling == LLAMA_POOLING_TYPE_MEAN  ? static_cast<float>(from.sum[j] / from.n_tokens)
                 : pooling == LLAMA_POOLING_TYPE_CLS ? from.first[j]
                                                     : from.last[j];
        if (!std::isfinite(out[j])) {
            throw Error(SHIMMY_E_COMPUTE, "the model gave numbers that are not finite; its file may be damaged");
        }
        norm += static_cast<double>(out[j]) * static_cast<double>(out[j]);
    }
    if (normalize && norm > 0.0) {
        for (size_t j = 0; j < static_cast<size_t>(n_out); ++j) {
            out[j] = static_cast<float>(static_cast<double>(out[j]) / std::sqrt(norm));
        }
    }
}

void shimmy_embedder::release(int32_t seq_id) {
    check_seq(seq_id);
    sequences_[static_cast<size_t>(seq_id)].n_tokens = 0;
    if (llama_memory_t memory = llama_get_memory(context_.get())) {
        llama_memory_seq_rm(memory, seq_id, -1, -1);
    }
}

void shimmy_embedder::clear() {
    for (Pooled & sequence : sequences_) {
        sequence.n_tokens = 0;
    }
    if (llama_memory_t memory = llama_get_memory(context_.get())) {
        llama_memory_clear(memory, false);
    }
}

const float * shimmy_embedder::rows(int32_t run) {
    if (rank_ || run < 0 || static_cast<size_t>(run) >= starts_.size()) {
        return nullptr;
    }
    return llama_get_embeddings_ith(context_.get(), starts_[static_cast<size_t>(run)]);
}
