#include "state.h"

#include "context.h"
#include "error.h"

#include "ggml-backend.h"
#include "llama.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

// Of llama-model.h, which has it for llama.cpp's own tests; the rest of that header is not wanted here.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace shimmy {

namespace {

constexpr char magic[8] = {'s', 'h', 'i', 'm', 'm', 'y', 'S', '1'};
constexpr size_t sample_bytes = 64;  // of a tensor

constexpr size_t n_lanes = 4;

// Finds damage and mistakes, not malice. Four words at a time in lanes of their own, because a state has megabytes, and each
// multiplication of one lane waits for the one before.
uint64_t hash_bytes(const void * data, size_t size, uint64_t hash) {
    const auto * bytes = static_cast<const uint8_t *>(data);
    const auto mixed = [](uint64_t sum, uint64_t word) {
        const uint64_t product = (sum ^ word) * 0x9E3779B97F4A7C15u;
        return product ^ (product >> 29);
    };
    uint64_t lanes[n_lanes] = {hash ^ size, hash + 1, hash + 2, hash + 3};
    size_t at = 0;
    for (; at + sizeof lanes <= size; at += sizeof lanes) {
        uint64_t words[n_lanes];
        std::memcpy(words, bytes + at, sizeof words);
        for (size_t lane = 0; lane < n_lanes; ++lane) {
            lanes[lane] = mixed(lanes[lane], words[lane]);
        }
    }
    for (size_t lane = 0; at < size; at += sizeof(uint64_t), ++lane) {
        uint64_t word = 0;
        std::memcpy(&word, bytes + at, std::min(sizeof word, size - at));
        lanes[lane] = mixed(lanes[lane], word);
    }
    hash = lanes[0];
    for (size_t lane = 1; lane < n_lanes; ++lane) {
        hash = mixed(hash, lanes[lane]);
    }
    return hash;
}

template <typename Value>
uint64_t hash_value(const Value & value, uint64_t hash) {
    return hash_bytes(&value, sizeof value, hash);
}

// The first bytes of a tensor, where they can be had: not of one that lies on several devices in parts, of which ggml gives all or
// aborts. What lies in the CPU's memory is read there: buffers of repacked weights have no function for it.
uint64_t hash_sample(const ggml_tensor * tensor, uint64_t hash) {
    if (tensor->data == nullptr || tensor->buffer == nullptr) {
        return hash;
    }
    ggml_backend_buffer_type_t type = ggml_backend_buffer_get_type(tensor->buffer);
    ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
    const auto kind = device == nullptr ? GGML_BACKEND_DEVICE_TYPE_META : ggml_backend_dev_type(device);
    const size_t n = std::min(sample_bytes, ggml_nbytes(tensor));
    if (ggml_backend_buft_is_host(type) || kind == GGML_BACKEND_DEVICE_TYPE_CPU) {
        return hash_bytes(tensor->data, n, hash);
    }
    if (kind == GGML_BACKEND_DEVICE_TYPE_GPU || kind == GGML_BACKEND_DEVICE_TYPE_IGPU) {
        uint8_t sample[sample_bytes];
        ggml_backend_tensor_get(tensor, sample, 0, n);
        return hash_bytes(sample, n, hash);
    }
    return hash;
}

[[noreturn]] void refuse(const char * reason) { throw Error(SHIMMY_E_INVALID, std::string("the state ") + reason, "state"); }

llama_state_seq_flags checked_flags(int32_t flags) {
    require(flags == 0 || flags == LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY, "flags must be 0 or 1");
    return static_cast<llama_state_seq_flags>(flags);
}

}  // namespace

uint64_t hash_settings(const shimmy_context_params & p) {
    uint64_t hash = hash_bytes(p.type_k, std::strlen(p.type_k), 1);
    hash = hash_bytes(p.type_v, std::strlen(p.type_v), hash);
    for (const float value : {p.rope_freq_base, p.rope_freq_scale, p.yarn_ext_factor, p.yarn_attn_factor, p.yarn_beta_fast,
                              p.yarn_beta_slow}) {
        hash = hash_value(value, hash);
    }
    hash = hash_value(p.yarn_orig_ctx, hash_value(p.rope_scaling_type, hash));
    return hash_value(p.swa_full, hash);  // a cache of a window alone has let go of what a full one still holds
}

uint64_t hash_model(const shimmy_model & model) {
    const llama_model * m = model.model.get();
    uint64_t hash = hash_value(llama_model_n_params(m), 2);
    char text[256];
    for (int32_t i = 0; i < llama_model_meta_count(m); ++i) {
        for (const auto read : {llama_model_meta_key_by_index, llama_model_meta_val_str_by_index}) {
            std::memset(text, 0, sizeof text);
            read(m, i, text, sizeof text);
            hash = hash_bytes(text, sizeof text, hash);
        }
    }
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(m)) {
        hash = hash_bytes(name.data(), name.size(), hash);
        hash = hash_sample(tensor, hash);
    }
    return hash;
}

StateHeader make_header(uint64_t fingerprint, int32_t flags, const uint8_t * raw, size_t size) {
    StateHeader header{};
    std::memcpy(header.magic, magic, sizeof magic);
    header.fingerprint = fingerprint;
    header.checksum = hash_bytes(raw, size, 3);
    header.size = size;
    header.flags = static_cast<uint64_t>(flags);
    return header;
}

const uint8_t * check_state(const uint8_t * data, size_t size, uint64_t fingerprint, int32_t flags) {
    StateHeader header{};
    if (size < sizeof header || std::memcmp(data, magic, sizeof magic) != 0) {
        refuse("is none that was saved here");
    }
    std::memcpy(&header, data, sizeof header);
    if (header.fingerprint != fingerprint) {
        refuse("is of another model, or of a context with other settings");
    }
    if (header.flags != static_cast<uint64_t>(flags)) {
        refuse("is whole where a part is asked for, or the other way round");
    }
    const uint8_t * raw = data + sizeof header;
    if (header.size != size - sizeof header || header.checksum != hash_bytes(raw, size - sizeof header, 3)) {
        refuse("is damaged");
    }
    return raw;
}

}  // namespace shimmy

using namespace shimmy;

extern "C" {

int32_t shimmy_context_state_size(shimmy_context * context, int32_t seq_id, int32_t flags, size_t * size) {
    return guarded([&] {
        require(context != nullptr && size != nullptr, "a pointer is NULL");
        const llama_state_seq_flags f = checked_flags(flags);
        context->check_seq(seq_id);
        *size = sizeof(StateHeader) + llama_state_seq_get_size_ext(context->get(), seq_id, f);
    });
}

int32_t shimmy_context_state_get(shimmy_context * context, int32_t seq_id, int32_t flags, uint8_t * data, size_t * size) {
    return guarded([&] {
        require(context != nullptr && data != nullptr && size != nullptr, "a pointer is NULL");
        const llama_state_seq_flags f = checked_flags(flags);
        context->check_seq(seq_id);
        const size_t needed = llama_state_seq_get_size_ext(context->get(), seq_id, f);
        require(*size >= sizeof(StateHeader) + needed, "the buffer is too small");
        uint8_t * raw = data + sizeof(StateHeader);
        const size_t n = llama_state_seq_get_data_ext(context->get(), raw, needed, seq_id, f);
        if (n == 0) {
            throw Error(SHIMMY_E_COMPUTE, "the state could not be read");
        }
        const StateHeader header = make_header(context->fingerprint(), flags, raw, n);
        std::memcpy(data, &header, sizeof header);
        *size = sizeof header + n;
    });
}

int32_t shimmy_context_seq_fork(shimmy_context * context, int32_t from, int32_t to, int32_t n, const uint8_t * data,
                                size_t size) {
    return guarded([&] {
        require(context != nullptr && data != nullptr && size > 0, "a pointer is NULL or the state is empty");
        context->check_seq(from);
        context->check_seq(to);
        require(from != to, "a sequence cannot be copied onto itself");
        require(context->forks_with_state(), "this memory has no part that a state could stand for");
        require(n > 0 && n <= llama_memory_seq_pos_max(context->memory(), from) + 1, "the sequence is shorter");
        require(llama_memory_seq_pos_max(context->memory(), to) < 0, "the target sequence is not empty");
        const uint8_t * raw = check_state(data, size, context->fingerprint(), LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
        const size_t n_raw = size - sizeof(StateHeader);
        forget_log();
        llama_memory_seq_cp(context->memory(), from, to, 0, n);
        // In place of what was copied of windows or recurrent states.
        const size_t n_read = llama_state_seq_set_data_ext(context->get(), raw, n_raw, to, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
        const bool fits = n_read == n_raw;
        if (!fits || context->last_of_state(to) != n - 1) {
            llama_memory_seq_rm(context->memory(), to, -1, -1);
            refuse(fits ? "is of another position" : "does not fit into this context: there are too few free cells");
        }
    });
}

int32_t shimmy_context_state_set(shimmy_context * context, int32_t seq_id, int32_t flags, const uint8_t * data,
                                 size_t size) {
    return guarded([&] {
        require(context != nullptr && data != nullptr && size > 0, "a pointer is NULL or the state is empty");
        const llama_state_seq_flags f = checked_flags(flags);
        context->check_seq(seq_id);
        const uint8_t * raw = check_state(data, size, context->fingerprint(), flags);
        const size_t n = size - sizeof(StateHeader);
        forget_log();
        if (llama_state_seq_set_data_ext(context->get(), raw, n, seq_id, f) != n) {
            llama_memory_seq_rm(context->memory(), seq_id, -1, -1);  // half of it may be there
            refuse("does not fit into this context: there are too few free cells");
        }
    });
}

}  // extern "C"
