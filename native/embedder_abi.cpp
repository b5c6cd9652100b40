// The C ABI of embedding contexts: shimmy_embedder_* (embedder.cpp does the work).
#include "embedder.h"
#include "error.h"
#include "json.h"
#include "shimmy.h"

using namespace shimmy;

extern "C" {

int32_t shimmy_embedder_new(const shimmy_model * model, const shimmy_context_params * params, bool rank,
                            shimmy_embedder ** out) {
    return guarded([&] {
        require(model != nullptr && params != nullptr && out != nullptr, "a pointer is NULL");
        *out = new shimmy_embedder(*model, *params, rank);
    });
}

void shimmy_embedder_free(shimmy_embedder * embedder) { delete embedder; }

int32_t shimmy_embedder_facts(const shimmy_embedder * embedder, char ** out) {
    return guarded([&] {
        require(embedder != nullptr && out != nullptr, "a pointer is NULL");
        llama_context * c = embedder->get();
        common_json facts = common_json::object();
        facts["n_ctx"] = llama_n_ctx(c);
        facts["n_batch"] = llama_n_batch(c);
        facts["n_seq_max"] = llama_n_seq_max(c);
        facts["n_threads"] = llama_n_threads(c);
        facts["n_threads_batch"] = llama_n_threads_batch(c);
        facts["width"] = embedder->width();
        facts["whole"] = embedder->whole();
        *out = copy_string(facts.dump_safe());
    });
}

void shimmy_embedder_interrupt(shimmy_embedder * embedder, bool on) {
    if (embedder != nullptr) {
        embedder->interrupted = on;
    }
}

int32_t shimmy_embedder_step(shimmy_embedder * embedder, const shimmy_embed_batch * batch) {
    return guarded([&] {
        require(embedder != nullptr && batch != nullptr, "a pointer is NULL");
        embedder->step(*batch);
    });
}

int32_t shimmy_embedder_read(const shimmy_embedder * embedder, int32_t seq_id, int32_t pooling, int32_t n_out, bool normalize,
                             float * out) {
    return guarded([&] {
        require(embedder != nullptr && out != nullptr, "a pointer is NULL");
        embedder->read(seq_id, pooling, n_out, normalize, out);
    });
}

const float * shimmy_embedder_rows(shimmy_embedder * embedder, int32_t run) {
    return embedder == nullptr ? nullptr : embedder->rows(run);
}

int32_t shimmy_embedder_release(shimmy_embedder * embedder, int32_t seq_id) {
    return guarded([&] {
        require(embedder != nullptr, "embedder is NULL");
        embedder->release(seq_id);
    });
}

int32_t shimmy_embedder_clear(shimmy_embedder * embedder) {
    return guarded([&] {
        require(embedder != nullptr, "embedder is NULL");
        embedder->clear();
    });
}

}  // extern "C"
