// A sequence's state as bytes that can be told from any other bytes: llama.cpp takes what it is given for its own.
#pragma once

#include "model.h"
#include "shimmy.h"

#include <cstddef>
#include <cstdint>

namespace shimmy {

// In front of llama.cpp's bytes. Written as it lies in memory: a state is for the machine that saved it.
struct StateHeader {
    char magic[8];
    uint64_t fingerprint;  // of the model and of the settings that keys and values depend on
    uint64_t checksum;     // of what follows
    uint64_t size;         // of what follows
    uint64_t flags;
};

// Of the settings that change what is in a cell or how it lies there.
uint64_t hash_settings(const shimmy_context_params & params);

// Of the model's metadata and a sample of each tensor, unless it lies in parts on several devices. Some milliseconds.
uint64_t hash_model(const shimmy_model & model);

StateHeader make_header(uint64_t fingerprint, int32_t flags, const uint8_t * raw, size_t size);

// The bytes behind the header. Throws E_INVALID with the parameter "state" unless they are whole, unchanged, and of this fingerprint.
const uint8_t * check_state(const uint8_t * data, size_t size, uint64_t fingerprint, int32_t flags);

}  // namespace shimmy
