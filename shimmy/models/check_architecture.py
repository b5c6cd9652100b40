"""What is checked of a model file because its architecture takes it for granted.

Most architectures compare what a file says with what they need, and answer with an error. These do not: they divide by
it, or assert it when they compute (src/models/*.cpp in llama.cpp; scripts/fuzz finds them).
"""

from __future__ import annotations

from collections.abc import Iterator

from shimmy.models.gguf_file import Header
from shimmy.models.metadata import ModelMetadata

# Architectures whose graphs assert that n_rot, n_embd_head_k and n_embd_head_v are equal (src/models/*.cpp).
_WHOLE_HEADS = frozenset(
    "apertus arcee arctic baichuan chameleon codeshell cogvlm cohere2moe dbrx deci deepseek dots1 dream ernie4_5"
    " ernie4_5-moe exaone exaone-moe exaone4 falcon granite granite_swa graniteswitch grok grovemoe hunyuan-moe"
    " hunyuan_vl hy_v3 internlm2 jais2 llada llada-moe llama llama4 maincoder mellum mistral3 olmo olmo2 olmoe orion"
    " paddleocr pangu-embedded plamo pockettts qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe rnd1 seed_oss"
    " smallthinker smollm3 starcoder2 talkie xverse".split()
)
_DIVIDE_BY_HEADS = frozenset(["olmo2", "phimoe", "gemma2", "gemma3", "deepseek2", "deepseek2-ocr"])
_DIVISORS = {
    "ssm.group_count": frozenset(["mamba2", "granitehybrid", "nemotron_h", "nemotron_h_moe", "falcon-h1"]),
    "ssm.time_step_rank": frozenset(["mamba2", "granitehybrid", "nemotron_h", "nemotron_h_moe", "falcon-h1", "plamo2"]),
    "experts_per_group": frozenset(["grovemoe"]),
}
# A layer is recurrent where it has no KV heads; without any, the input of those layers is left without a buffer.
_RECURRENT_WITHOUT_HEADS = frozenset(
    ["jamba", "granitehybrid", "nemotron_h", "nemotron_h_moe", "lfm2", "lfm2moe", "plamo2"]
)
_NEED_EXPERTS = frozenset("qwen35moe qwen4exp bailingmoe2 lfm2moe smallthinker llada-moe grovemoe".split())
_ONE_TOKEN_SHIFT = frozenset(["rwkv6qwen2", "arwkv7"])


def wrong_architecture(header: Header, metadata: ModelMetadata) -> Iterator[str]:
    """What is wrong with the file for its own architecture, in words that follow on its name."""
    yield from _wrong_rope(header, metadata)
    yield from _wrong_divisors(header, metadata)
    yield from _wrong_kinds_of_layers(header, metadata)


def per_layer(header: Header, key: str) -> list[int | float]:
    """The number at ``key``, or one for each layer; none where there is no number."""
    value = header.values.get(key)
    values = value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, int | float)]


def _wrong_rope(header: Header, metadata: ModelMetadata) -> Iterator[str]:
    """ggml_rope turns pairs of a head's numbers, and many architectures assert that it turns them all."""
    own = metadata.architecture + "."
    # A model without positions of this kind may say 0.
    n_rot, least = header.values.get(own + "rope.dimension_count"), 0 if metadata.is_hybrid else 2
    longest = metadata.key_length or 0
    heads = per_layer(header, own + "attention.head_count")
    if metadata.head_count and isinstance(n_rot, int) and (n_rot % 2 or not least <= n_rot <= longest):
        yield f"says {own}rope.dimension_count is {n_rot}; even numbers up to the key length, {longest}, are right"
    n_rot_swa = header.values.get(own + "rope.dimension_count_swa")
    longest_swa = header.values.get(own + "attention.key_length_swa", longest)
    if (
        isinstance(n_rot_swa, int)
        and isinstance(longest_swa, int)
        and (n_rot_swa % 2 or not 0 <= n_rot_swa <= longest_swa)
    ):
        yield f"says {own}rope.dimension_count_swa is {n_rot_swa}; even numbers up to {longest_swa} are right"
    if metadata.architecture in _WHOLE_HEADS and heads and heads[0] > 0:
        lengths = {longest, metadata.value_length, n_rot if isinstance(n_rot, int) else longest}
        if len(lengths) > 1:
            yield (
                f"says {own}rope.dimension_count, attention.key_length and attention.value_length are"
                f" {n_rot}, {longest} and {metadata.value_length}; for {metadata.architecture} they are the same"
            )


def _wrong_divisors(header: Header, metadata: ModelMetadata) -> Iterator[str]:
    """Counts that llama.cpp divides by without a look."""
    own = metadata.architecture + "."
    if (
        metadata.architecture in _DIVIDE_BY_HEADS
        and not (per_layer(header, own + "attention.head_count") or [0])[0] > 0
    ):
        yield f"does not say its {own}attention.head_count"
    for key, architectures in _DIVISORS.items():
        if metadata.architecture in architectures and header.values.get(own + key, 0) == 0:
            yield f"does not say its {own}{key}, or says that it is 0"
    if metadata.architecture in _NEED_EXPERTS and metadata.expert_count < 1:
        yield f"does not say its {own}expert_count"


def _wrong_kinds_of_layers(header: Header, metadata: ModelMetadata) -> Iterator[str]:
    own, architecture = metadata.architecture + ".", metadata.architecture
    heads_kv = per_layer(header, own + "attention.head_count_kv") or per_layer(header, own + "attention.head_count")
    if architecture in _RECURRENT_WITHOUT_HEADS and heads_kv and 0 not in heads_kv[: metadata.block_count or 0]:
        yield f"has KV heads in each layer ({own}attention.head_count_kv), and some without are right"
    if architecture in _ONE_TOKEN_SHIFT and header.values.get(own + "token_shift_count", 2) != 1:
        yield f"does not say that its {own}token_shift_count is 1"
    sections = per_layer(header, own + "rope.dimension_sections")
    if architecture == "paddleocr" and not any(section > 0 for section in sections[:3]):
        yield f"does not say its {own}rope.dimension_sections"
    period = header.values.get(own + "attention.sliding_window_pattern", 6)
    if architecture == "gemma-embedding" and isinstance(period, int) and not 0 < period <= (metadata.block_count or 0):
        yield f"has no layer without a sliding window ({own}attention.sliding_window_pattern)"
