// Loading LoRA adapters. llama.cpp throws or, in the first step, aborts on adapters that do not fit the model: all of that is
// looked for in the file before llama.cpp sees it.
#include "adapter.h"

#include "error.h"
#include "json.h"
#include "shimmy.h"

#include "gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

// Of llama-model.h, which has it for llama.cpp's own tests; the rest of that header is not wanted here.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

using namespace shimmy;

namespace {

constexpr const char * param = "lora";

struct FreeGguf {
    void operator()(gguf_context * c) const { gguf_free(c); }
};
struct FreeGgml {
    void operator()(ggml_context * c) const { ggml_free(c); }
};
struct Pair {
    const ggml_tensor * a = nullptr;
    const ggml_tensor * b = nullptr;
};
using Tensors = std::unordered_map<std::string, const ggml_tensor *>;

[[noreturn]] void refuse(const std::string & reason) { throw Error(SHIMMY_E_INVALID, reason, param); }

void need(bool condition, const std::string & reason) {
    if (!condition) {
        refuse(reason);
    }
}

// gguf_get_val_* abort on another type than they are asked for, and llama.cpp does not ask first.
std::string text_of(const gguf_context * file, const char * key) {
    const int64_t id = gguf_find_key(file, key);
    if (id < 0) {
        return "";
    }
    need(gguf_get_kv_type(file, id) == GGUF_TYPE_STRING, std::string(key) + " is no text");
    return gguf_get_val_str(file, id);
}

float number_of(const gguf_context * file, const char * key) {
    const int64_t id = gguf_find_key(file, key);
    if (id < 0) {
        return 0.0f;
    }
    need(gguf_get_kv_type(file, id) == GGUF_TYPE_FLOAT32 && std::isfinite(gguf_get_val_f32(file, id)),
         std::string(key) + " is no number");
    return gguf_get_val_f32(file, id);
}

std::string architecture_of(const llama_model * model) {
    char buffer[128] = "";
    llama_model_meta_val_str(model, "general.architecture", buffer, sizeof buffer);
    return buffer;
}

void check_metadata(const gguf_context * file, const llama_model * model) {
    const std::string type = text_of(file, "general.type");
    need(type == "adapter", "it is no adapter but " + (type.empty() ? "a GGUF file of no named type" : "a " + type));
    const std::string kind = text_of(file, "adapter.type");
    need(kind == "lora", "it is an adapter of type '" + kind + "', not lora");
    const std::string wanted = architecture_of(model);
    const std::string found = text_of(file, "general.architecture");
    need(found == wanted, "it was made for a model of architecture '" + found + "', and this one is '" + wanted + "'");
    need(gguf_find_key(file, "adapter.alora.invocation_tokens") < 0,
         "it is an activated LoRA, which works from certain tokens on: not supported, use a plain LoRA");
}

bool take_suffix(std::string & name, const char * suffix) {
    const size_t n = std::strlen(suffix);
    if (name.size() <= n || name.compare(name.size() - n, n, suffix) != 0) {
        return false;
    }
    name.resize(name.size() - n);
    return true;
}

std::map<std::string, Pair> pairs_of(ggml_context * tensors) {
    std::map<std::string, Pair> pairs;
    for (ggml_tensor * t = ggml_get_first_tensor(tensors); t != nullptr; t = ggml_get_next_tensor(tensors, t)) {
        std::string name = t->name;
        if (take_suffix(name, ".lora_a")) {
            pairs[name].a = t;
        } else if (take_suffix(name, ".lora_b")) {
            pairs[name].b = t;
        } else if (!take_suffix(name, "_norm.weight")) {  // llama.cpp leaves norms out
            refuse("tensor '" + name + "' is no part of a LoRA");
        }
        need(name.find(".lora_") == std::string::npos, "tensor '" + std::string(t->name) + "' is no part of a LoRA");
    }
    need(!pairs.empty(), "it holds no LoRA tensors");
    return pairs;
}

// Others have no kernel for a product, or are not what converters write.
bool is_usable(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || type == GGML_TYPE_Q8_0;
}

// W of ne {n_in, n_out, n_expert} takes A {n_in, rank, n_expert} and B {rank, n_out, n_expert}; the token embeddings, which are
// looked up and not multiplied, take A {rank, n_vocab} and B {rank, n_embd}.
void check_pair(const std::string & name, const Pair & pair, const ggml_tensor * weight, bool tied) {
    const std::string what = "tensor '" + name + "'";
    need(pair.a != nullptr && pair.b != nullptr, what + " has only one of its two parts");
    need(weight != nullptr, what + " is not in this model: the adapter was made for another one");
    need(is_usable(pair.a->type) && is_usable(pair.b->type), what + " is not of type f32, f16, bf16 or q8_0");
    need(weight->type != GGML_TYPE_NVFP4, what + " is of type nvfp4 in this model, which takes no adapter");
    const int64_t * a = pair.a->ne;
    const int64_t * b = pair.b->ne;
    const int64_t * w = weight->ne;
    const bool embeddings = name == "token_embd.weight";
    need(!embeddings || !tied, "it changes the token embeddings, which this model uses for its output too: not supported");
    const bool fits = embeddings ? a[1] == w[1] && b[1] == w[0] && a[0] == b[0]
                                 : a[0] == w[0] && b[1] == w[1] && a[1] == b[0];
    const bool as_deep = a[2] == w[2] && b[2] == w[2] && a[3] == w[3] && b[3] == w[3];
    need(fits && as_deep && b[0] > 0, what + " has another shape than in this model: the adapter was made for another one");
}

Tensors tensors_of(const llama_model * model) {
    Tensors tensors;
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        tensors.emplace(name, tensor);
    }
    return tensors;
}

// What the file says of itself; throws where it does not fit the model.
std::unique_ptr<shimmy_adapter> read_adapter(const shimmy_model & model, const char * path) {
    ggml_context * raw = nullptr;
    const std::unique_ptr<gguf_context, FreeGguf> file(gguf_init_from_file(path, {/*.no_alloc =*/true, /*.ctx =*/&raw}));
    const std::unique_ptr<ggml_context, FreeGgml> tensors(raw);
    need(file != nullptr, "it cannot be read as a GGUF file");
    check_metadata(file.get(), model.model.get());
    auto adapter = std::make_unique<shimmy_adapter>();
    adapter->model = &model;
    adapter->name = text_of(file.get(), "general.name");
    adapter->alpha = number_of(file.get(), "adapter.lora.alpha");
    const Tensors weights = tensors_of(model.model.get());
    const bool tied = weights.count("output.weight") == 0;
    for (const auto & [name, pair] : pairs_of(tensors.get())) {
        const auto weight = weights.find(name);
        check_pair(name, pair, weight == weights.end() ? nullptr : weight->second, tied);
        adapter->rank = std::max(adapter->rank, pair.b->ne[0]);
        adapter->n_tensors += 2;
        adapter->size_bytes += ggml_nbytes(pair.a) + ggml_nbytes(pair.b);
    }
    return adapter;
}

}  // namespace

extern "C" {

int32_t shimmy_adapter_load(shimmy_model * model, const char * path, shimmy_adapter ** out) {
    return guarded([&] {
        require(model != nullptr && path != nullptr && out != nullptr, "a pointer is NULL");
        forget_log();
        std::unique_ptr<shimmy_adapter> adapter = read_adapter(*model, path);
        model->adapters.reserve(model->adapters.size() + 1);
        adapter->lora = llama_adapter_lora_init(model->model.get(), path);
        if (adapter->lora == nullptr) {
            const std::string why = logged_errors();
            const bool memory = why.find("alloc") != std::string::npos;
            throw Error(memory ? SHIMMY_E_MEMORY : SHIMMY_E_INVALID, why.empty() ? "llama.cpp could not load it" : why, param);
        }
        *out = adapter.get();
        model->adapters.push_back(std::move(adapter));
    });
}

int32_t shimmy_adapter_facts(const shimmy_adapter * adapter, char ** out) {
    return guarded([&] {
        require(adapter != nullptr && out != nullptr, "a pointer is NULL");
        common_json facts = common_json::object();
        facts["name"] = adapter->name;
        facts["alpha"] = adapter->alpha;
        facts["rank"] = adapter->rank;
        facts["n_tensors"] = adapter->n_tensors;
        facts["size_bytes"] = adapter->size_bytes;
        *out = copy_string(facts.dump_safe());
    });
}

}  // extern "C"
