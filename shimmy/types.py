"""Values that cross rooms: what is asked of a model, what comes back, what a model is.

All are frozen msgspec structs. Those that cross the socketpair are encoded as msgpack arrays; field order is
therefore part of the worker protocol, whose two ends are always the same version.
"""

from __future__ import annotations

from typing import Literal

import msgspec

FilePooling = Literal["none", "mean", "cls", "last", "rank"]
FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
ModelStatus = Literal["available", "loading", "ready", "draining", "failed"]
Capability = Literal["completion", "chat", "tools", "embedding", "rerank", "fim"]
MAX_STOPS = 16
MAX_INPUTS = 2048  # of an embedding or rerank request
MAX_ADAPTERS = 8
LoraSet = tuple[tuple[int, float], ...]  # (index among the loaded adapters, scale), in order of index, without scale 0
SAMPLERS = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")


class SamplingParams(msgspec.Struct, frozen=True, array_like=True):
    """How the next token is drawn, with llama-server's names. Neutral values switch a stage off; floats are finite.

    temperature  >= 0; 0 is greedy, 1 neutral
    dynatemp_range     >= 0; the temperature goes up and down by it with the entropy of what is left; 0 is off
    dynatemp_exponent  >= 0; of the entropy's share of the largest possible one
    top_k        >= 0; 0 is off
    top_p        0..1; 1 is off
    min_p        0..1; 0 is off
    typical_p    0..1; 1 is off
    top_n_sigma  standard deviations below the largest logit; 0 and below is off
    xtc_probability    0..1; 0 is off
    xtc_threshold      0..1; above 0.5 is off
    min_keep     >= 0; how many tokens top_p, min_p, typical_p and XTC leave at least
    repeat_penalty     > 0; 1 is off
    presence_penalty, frequency_penalty    0 is off (OpenAI clients may send -2..2)
    repeat_last_n      how many of the last tokens these penalties count; 0 is off, -1 the context
    dry_multiplier     >= 0; 0 is off
    dry_base           >= 1; the penalty is multiplier * base ** (tokens repeated - allowed length)
    dry_allowed_length >= 0; repetitions of fewer tokens cost nothing
    dry_penalty_last_n    where repetitions are looked for; 0 is off, -1 the context
    dry_sequence_breakers    up to 32 texts of 1 to 40 bytes that end a repetition
    mirostat     0 is off; version 1 or 2 takes the place of all stages but logit_bias and temperature
    mirostat_tau       >= 0; the surprise aimed at, in bits
    mirostat_eta       >= 0; how fast it learns
    samplers     the stages and their order, up to 32 names of SAMPLERS, None for that; what is not named is off
    seed         0..2**32-1, or None for a random one
    logit_bias   token id -> added to its logit
    n_logprobs   None: no logprobs; 0: of the drawn token; up to 20: also the most likely ones
    ignore_eos   end-of-generation tokens are never drawn
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int | None = None
    logit_bias: dict[int, float] = {}
    n_logprobs: int | None = None
    ignore_eos: bool = False
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    min_keep: int = 0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    samplers: tuple[str, ...] | None = None


class Trigger(msgspec.Struct, frozen=True, array_like=True):
    """What wakes a lazy grammar, which then takes in the text from the trigger's start.

    word          the text ``value``, anywhere
    token         the token ``token``
    pattern       an ECMAScript regular expression, anywhere in the last 4096 bytes; from its first group that holds something
    pattern_full  the same for the whole text, while that has at most 4096 bytes
    """

    kind: Literal["word", "token", "pattern", "pattern_full"]
    value: str = ""
    token: int | None = None


class ToolCall(msgspec.Struct, frozen=True, array_like=True):
    """A function that the model called; ``arguments`` is a JSON object as text."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One chat message; ``role`` is system, developer, user, assistant or tool.

    content       a text, a list of the texts of its parts, or None where there are only tool calls
    tool_calls    what the assistant called; ``tool_call_id`` of a tool's message says which call it answers
    reasoning     what the assistant thought before its answer
    """

    role: str
    content: str | list[str] | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None


class FunctionChoice(msgspec.Struct, frozen=True, array_like=True):
    """The one function that must be called."""

    name: str


class ChatParams(msgspec.Struct, frozen=True, array_like=True):
    """How messages become a prompt, and the answer's text a message.

    tools                OpenAI's list as JSON text
    tool_choice          auto, none, required, or the function that must be called
    parallel_tool_calls  several calls in one answer; None: if the template can
    extract_reasoning    False: what the model thinks is part of the content
    enable_thinking      a variable that many templates know; None: as the template has it, which mostly is to think
    reasoning_effort     a variable that some templates know (low, medium, high); "none" is enable_thinking False
    template_kwargs      further variables for the template, a JSON object as text
    continue_answer      the last message is the beginning of the answer
    """

    tools: str | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice = "auto"
    parallel_tool_calls: bool | None = None
    extract_reasoning: bool = True
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None
    template_kwargs: str | None = None
    continue_answer: bool = False


class GenerateRequest(msgspec.Struct, frozen=True, array_like=True):
    """One generation. Exactly one of ``prompt``, ``prompt_tokens`` and ``messages`` is given.

    max_tokens   >= 0; None: up to the context
    stop         up to 16 strings that end the answer and are not part of it
    cache_prompt whether cells of earlier requests may be reused
    grammar      GBNF that the whole answer matches; json_schema: a JSON schema, as text, whose JSON it is. At most one of the two
    suffix       the text behind the gap that the answer fills, for models made for it; the prompt stands before it
    spm_infill   the suffix goes to the model before the prompt, as some models want it
    lora         (index among the loaded adapters, scale); None: as they were loaded; 0 is off, and so is what is not named
    chat         what to do with ``messages`` and their answer
    partition    cells are reused between requests of equal partitions alone: what one asker sent cannot be timed by another
    return_progress  also Progress events: when the first step begins, and after each that computes a part of the prompt
    """

    id: int
    prompt: str | None = None
    prompt_tokens: list[int] | None = None
    messages: list[Message] | None = None
    max_tokens: int | None = None
    stop: list[str] = []
    sampling: SamplingParams = SamplingParams()
    cache_prompt: bool = True
    lora: list[tuple[int, float]] | None = None
    grammar: str | None = None
    json_schema: str | None = None
    suffix: str | None = None
    spm_infill: bool = False
    chat: ChatParams = ChatParams()
    return_progress: bool = False
    partition: str = ""


class EmbedRequest(msgspec.Struct, frozen=True, array_like=True):
    """Vectors of ``inputs``, each a text or its tokens.

    inputs      1 to 2048, none of them empty
    pooling     how the tokens' vectors become one; None: the model file's, else mean; none: all of them, as they are
    dimensions  the first so many numbers of each vector; None: all
    normalize   vectors of length 1, taken after the cut; not with pooling none
    """

    id: int
    inputs: list[str | list[int]]
    pooling: Literal["none", "mean", "cls", "last"] | None = None
    dimensions: int | None = None
    normalize: bool = True


class RerankRequest(msgspec.Struct, frozen=True, array_like=True):
    """How well each of 1 to 2048 ``documents`` answers ``query``; the ``top_n`` best, or all of them."""

    id: int
    query: str
    documents: list[str]
    top_n: int | None = None


class TokenizeRequest(msgspec.Struct, frozen=True, array_like=True):
    """The tokens of ``text``.

    add_special    with those that the model puts around a prompt
    parse_special  the text of a control token is that token
    pieces         also each token's bytes
    """

    id: int
    text: str
    add_special: bool = False
    parse_special: bool = True
    pieces: bool = False


class DetokenizeRequest(msgspec.Struct, frozen=True, array_like=True):
    """The text of ``tokens``; ``special``: of control tokens, too. ``pieces``: also each token's bytes."""

    id: int
    tokens: list[int]
    special: bool = True
    pieces: bool = False


class TemplateRequest(msgspec.Struct, frozen=True, array_like=True):
    """The prompt that a generation with these ``messages`` would have; ``open_answer``: up to where the answer begins."""

    id: int
    messages: list[Message]
    chat: ChatParams = ChatParams()
    json_schema: str | None = None
    open_answer: bool = True


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token with the natural logarithm of its probability under the raw softmax; ``piece`` are its bytes.

    Only of tokens of the content, each with the content that it completes: the pieces together are the content's bytes. Of a token
    that a stop string has cut there are the bytes before it.
    """

    token: int
    logprob: float
    piece: bytes
    top: list[tuple[int, float, bytes]] = []


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Token counts; ``cached_tokens`` is the part of ``prompt_tokens`` that was not computed again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """Wall times in milliseconds, with llama-server's meaning of the fields."""

    queue_ms: float = 0.0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0

    @property
    def prompt_per_second(self) -> float:
        """Prefill speed, tokens/s; 0 where nothing was computed."""
        return 1e3 * self.prompt_n / self.prompt_ms if self.prompt_ms > 0 else 0.0

    @property
    def predicted_per_second(self) -> float:
        """Decode speed, tokens/s: of the tokens after the first, which prefill gave and from which predicted_ms counts."""
        return 1e3 * (self.predicted_n - 1) / self.predicted_ms if self.predicted_ms > 0 else 0.0


class ToolCallDelta(msgspec.Struct, frozen=True, array_like=True):
    """More of call ``index`` of an answer; ``id`` and ``name`` come once, with the first; ``arguments`` is a piece of JSON text."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """More text of request ``id``: whole UTF-8 characters, never a part of a stop string."""

    id: int
    text: str
    n_tokens: int
    logprobs: list[TokenLogprob] | None = None
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = []


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """How far the prompt of request ``id`` is computed; only where it was asked for.

    total      tokens of the prompt; ``cached`` of them were not computed again
    processed  tokens that are there by now, cached ones too; fewer than before where others needed their cells
    time_ms    since the first step with it
    """

    id: int
    total: int
    cached: int
    processed: int
    time_ms: float


class Finished(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """The end of request ``id``; ``text``, ``reasoning`` and ``tool_calls`` are what was still held back."""

    id: int
    text: str
    reason: FinishReason
    usage: Usage
    timings: Timings
    logprobs: list[TokenLogprob] | None = None
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = []


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """Request ``id`` ended with an error (errors.py: from_wire)."""

    id: int
    error: dict[str, object]


class Embedded(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """The vectors of request ``id`` in the order of its inputs, float32 in little-endian order.

    Each has ``width`` numbers; with pooling none, ``width`` for each token of its input.
    """

    id: int
    vectors: list[bytes]
    width: int
    usage: Usage


class Ranked(msgspec.Struct, frozen=True, array_like=True):
    """A document by its place in the request, with the score that the model's classifier gave it: any number, higher is better."""

    index: int
    score: float


class Reranked(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """The documents of request ``id``, best first."""

    id: int
    results: list[Ranked]
    usage: Usage


class Tokenized(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """The tokens of request ``id``; ``pieces``: the bytes of each inside a text, none of a control token; None: not asked for."""

    id: int
    tokens: list[int]
    pieces: list[bytes] | None = None


class Detokenized(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """The bytes of request ``id``'s tokens, not always whole UTF-8; ``pieces`` as in Tokenized."""

    id: int
    data: bytes
    pieces: list[bytes] | None = None


class Templated(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """The prompt of request ``id``'s messages."""

    id: int
    prompt: str


Event = Delta | Progress | Finished | Failed | Embedded | Reranked | Tokenized | Detokenized | Templated


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


class ContextFacts(msgspec.Struct, frozen=True):
    """What a context really has (shimmy_context_facts).

    n_ctx_seq  the most tokens of one sequence
    memory     the model's and the context's, by device and buffer
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


class ModelInfo(msgspec.Struct, frozen=True):
    """A model file as ``list`` and GET /api/models show it. Sizes in bytes; None where the file does not say.

    source        the place where it was found: the store, a folder, a variable
    pulled_from   what it was pulled from, for a model of the store
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
