"""What a model is, and how it is loaded."""

from __future__ import annotations

from typing import Literal

import msgspec

FilePooling = Literal["none", "mean", "cls", "last", "rank"]
ModelStatus = Literal["available", "loading", "ready", "draining", "failed", "incomplete"]
Capability = Literal["completion", "chat", "tools", "embedding", "rerank", "fim"]
MAX_ADAPTERS = 8
CPU = "CPU"  # the host's memory, among devices
LoraSet = tuple[tuple[int, float], ...]  # (index among the loaded adapters, scale), in order of index, without scale 0


class ModelParams(msgspec.Struct, frozen=True, array_like=True):
    """How a model is loaded.

    n_gpu_layers  layers on the GPU; -1: all
    split_mode    none, layer, row or tensor: how several GPUs share a model
    main_gpu      which of the devices has all of it with split_mode none
    load_mode     auto, read, mmap, mlock, mmap_mlock or direct
    tensor_split  share of each device; empty: as their free memory is
    devices       GPUs by the names that diag shows; empty: none; None: all
    n_cpu_moe     layers whose experts stay in the CPU's memory; -1: all
    """

    n_gpu_layers: int = -1
    split_mode: Literal["none", "layer", "row", "tensor"] = "layer"
    main_gpu: int = 0
    load_mode: Literal["auto", "read", "mmap", "mlock", "mmap_mlock", "direct"] = "auto"
    tensor_split: tuple[float, ...] = ()
    devices: tuple[str, ...] | None = None
    n_cpu_moe: int = 0
    use_extra_bufts: bool = True
    no_host: bool = False
    check_tensors: bool = False


class ContextParams(msgspec.Struct, frozen=True, array_like=True):
    """KV cache, batch sizes and threads of a model's context (native/shimmy.h has each field's range).

    n_ctx      cells of the KV cache over all sequences; 0: chosen from the trained context and the free memory
    parallel   sequences at work at once
    n_seq_max  sequence ids, at work or cached; 0: chosen by the kind of memory
    n_threads  0: one for each core
    spin       0..100, how long waiting threads poll before they sleep (ggml's own pools)
    device_sampling  narrow rows to their largest logits where they are computed; auto: where the output layer is on a GPU
    speculation      verify guesses of an answer's next tokens together; auto: where and when it is measured to pay
    """

    n_ctx: int = 0
    parallel: int = 8
    n_seq_max: int = 0
    n_batch: int = 2048
    n_ubatch: int = 512
    n_threads: int = 0
    n_threads_batch: int = 0
    spin: int = 0
    flash_attn: Literal["auto", "on", "off"] = "auto"
    type_k: str = "f16"
    type_v: str = "f16"
    rope_scaling: Literal["model", "none", "linear", "yarn", "longrope"] = "model"
    rope_freq_base: float = 0.0
    rope_freq_scale: float = 0.0
    yarn_ext_factor: float = -1.0
    yarn_attn_factor: float = -1.0
    yarn_beta_fast: float = -1.0
    yarn_beta_slow: float = -1.0
    yarn_orig_ctx: int = 0
    offload_kqv: bool = True
    op_offload: bool = True
    swa_full: bool = False
    kv_unified: bool = True
    device_sampling: Literal["auto", "on", "off"] = "off"
    speculation: Literal["auto", "off"] = "auto"


class ModelFacts(msgspec.Struct, frozen=True):
    """What llama.cpp says of a loaded model (shimmy_model_facts).

    n_ctx_orig     before a stretching of its own
    longest_token  the most bytes of a text that one token stands for; 0: there is no such limit
    """

    description: str
    size_bytes: int
    parameter_count: int
    n_vocab: int
    n_ctx_train: int
    n_embd: int
    n_layer: int
    n_swa: int
    has_encoder: bool
    has_decoder: bool
    is_recurrent: bool
    is_hybrid: bool
    is_diffusion: bool
    has_chat_template: bool
    rerank_template: str | None
    pooling: FilePooling | None
    n_embd_out: int
    add_bos: bool
    add_eos: bool
    add_sep: bool
    special_tokens: dict[str, int | None]
    n_expert: int = 0
    n_ctx_orig: int = 0
    longest_token: int = 0


class AdapterFacts(msgspec.Struct, frozen=True):
    """What a LoRA adapter's file says of itself. ``alpha`` 0: the scale alone says how strong it is; ``rank`` is its largest."""

    name: str
    alpha: float
    rank: int
    n_tensors: int
    size_bytes: int


class BufferMemory(msgspec.Struct, frozen=True):
    """Bytes in one kind of buffer: weights, KV cache or state, and what a computation needs."""

    device: str
    buffer: str
    model: int
    context: int
    compute: int


class DeviceMemory(msgspec.Struct, frozen=True):
    """Bytes of a model on one device; CPU is the host's memory.

    weights    also those that are mapped from the file: a step reads them all
    kv_cache   or the state of a recurrent model
    compute    what a step needs, rows of logits included
    other      the vocabulary and the process, roughly
    """

    device: str
    weights: int = 0
    kv_cache: int = 0
    compute: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.compute + self.other


class DeviceFree(msgspec.Struct, frozen=True):
    """A GPU as a worker sees it now; sizes in bytes, ``total`` 0 where the device does not say. ``kind``: gpu or igpu."""

    name: str
    kind: str
    total: int
    free: int


class Plan(msgspec.Struct, frozen=True):
    """How a model is to be loaded, and what that takes.

    model       with the layers and experts that go to GPUs
    n_ctx       cells of the KV cache; 0: the worker chooses when the weights are there, for it could not be estimated
    memory      estimated, one for each device that has a part
    whole       nothing was moved to the CPU, and the context is as wanted
    on_gpu      all of the model is on GPUs
    notes       what was done to make it fit, and why
    """

    model: ModelParams
    n_ctx: int
    memory: list[DeviceMemory]
    whole: bool = True
    on_gpu: bool = False
    notes: list[str] = []


class ContextFacts(msgspec.Struct, frozen=True):
    """What a context really has (shimmy_context_facts).

    n_ctx_seq  the most tokens of one sequence
    device_sampling  whether rows may be narrowed where they are computed
    memory     the model's and the context's, by device and buffer
    window     tokens that some layers see, where cells of these layers can be shared; else 0
    forks_with_state  whether a beginning can be shared where a partial state was saved at its end
    """

    n_ctx: int
    n_ctx_seq: int
    n_batch: int
    n_ubatch: int
    n_seq_max: int
    n_threads: int
    n_threads_batch: int
    kv_unified: bool
    memory_kind: Literal["attention", "sliding_window", "recurrent", "hybrid", "other", "none"]
    memory: list[BufferMemory] = []
    device_sampling: bool = False
    window: int = 0
    forks_with_state: bool = False


class ModelInfo(msgspec.Struct, frozen=True):
    """A model file as ``list`` and GET /api/models show it. Sizes in bytes; None where the file does not say.

    source        the place where it was found: the store, a folder, a variable
    pulled_from   what it was pulled from, as far as that is known
    status        incomplete: parts of it are not there, and ``missing`` are their names
    aliases       other names that requests may use
    projector     the file beside it that sees images or hears sounds, which is not used
    """

    id: str
    name: str
    path: str
    source: str
    size_bytes: int
    architecture: str
    parameter_count: int
    quantization: str
    context_length: int | None
    vocabulary_size: int | None
    capabilities: list[Capability]
    description: str = ""
    status: ModelStatus = "available"
    pulled_from: str | None = None
    missing: list[str] = []
    aliases: list[str] = []
    projector: str | None = None
