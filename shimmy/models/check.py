"""What is checked of a model file before llama.cpp sees it.

llama.cpp answers many bad files with an error, and some with abort(), a division by zero or a SIGBUS; those are
found here, and so is what it accepts although no model can mean it. The names in the comments are llama.cpp's.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

from shimmy.errors import InvalidModelFile
from shimmy.models.check_architecture import per_layer, wrong_architecture
from shimmy.models.check_tensors import wrong_tensors
from shimmy.models.gguf_file import (
    INT32,
    LONGEST_VOCABULARY,
    STRING,
    UINT16,
    Array,
    Header,
    Value,
    read_array,
    read_header,
)
from shimmy.models.metadata import ModelMetadata, describe
from shimmy.models.string_array import first_duplicate

_TENSOR_ALIGNMENT = 32  # TENSOR_ALIGNMENT
_MOST_LAYERS = 512  # LLAMA_MAX_LAYERS
_MOST_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
_BYTE = 6  # LLAMA_TOKEN_TYPE_BYTE
_UNSPECIFIED = 0xFFFFFFFF  # -1, which some converters write for "none"
_SPECIAL_TOKENS = (
    "bos eos eot eom unknown seperator padding mask cls prefix suffix middle"
    " fim_pre fim_suf fim_mid fim_pad fim_rep fim_sep"
).split()
# The ids that llama.cpp takes where a file names none (llama_vocab::impl::load): first and last token of a text.
_DEFAULT_BOS = {"llama": 1, "bert": 101, "gpt2": 11, "plamo2": 1, "gemma4": 1}
_DEFAULT_EOS = {"llama": 2, "gpt2": 11, "t5": 1, "plamo2": 2}


def check_model_file(path: Path) -> ModelMetadata:
    """The metadata of the model at ``path``, after checking all that can be checked without loading it.

    Takes about 50 ms more than read_metadata for a vocabulary of 262,144 tokens. Of a model in several files give
    the first; the others are checked too. Raises InvalidModelFile with the first thing that is wrong.
    """
    return checked(path)[1]


def checked(path: Path) -> tuple[Header, ModelMetadata]:
    """As ``check_model_file``, with the header."""
    header = read_header(path)
    metadata = describe(path, header)
    not_a_model = {
        "adapter": "is an adapter (LoRA) and no model; give the model it belongs to",
        "projector": "is a projector for images or sounds and no model; give the model it belongs to",
        "vocabulary": "holds a vocabulary but no weights",
    }
    if metadata.kind in not_a_model:
        raise InvalidModelFile(str(path), not_a_model[metadata.kind])
    if not metadata.architecture:
        raise InvalidModelFile(str(path), "does not say which architecture it has")
    reasons = (
        _wrong_alignment(header),
        wrong_tensors(header),
        _wrong_layers(header, metadata),
        _wrong_numbers(header, metadata),
        wrong_architecture(header, metadata),
        _wrong_experts(header, metadata),
        _wrong_tokens(path, header, metadata),
    )
    for reason in (reason for checks in reasons for reason in checks):
        raise InvalidModelFile(str(path), reason)
    if metadata.split_count > 1:
        _check_other_parts(path, metadata)
    return header, metadata


def _wrong_alignment(header: Header) -> Iterator[str]:
    # A buffer over mapped weights must begin on a multiple of this (ggml_backend_cpu_buffer_from_ptr).
    if header.tensors and header.alignment < _TENSOR_ALIGNMENT:
        yield f"aligns its tensors to {header.alignment} bytes; {_TENSOR_ALIGNMENT} is the least; convert the model again"


def _wrong_layers(header: Header, metadata: ModelMetadata) -> Iterator[str]:
    own = metadata.architecture + "."
    for key, value in (
        ("block_count", metadata.block_count),
        ("context_length", metadata.context_length),
        ("embedding_length", metadata.embedding_length),
    ):
        if value is None:
            yield f"does not say its {own}{key}"
        elif value < 1:
            yield f"says {own}{key} is {value}; 1 is the least"
    block_count = metadata.block_count or 0
    if block_count > _MOST_LAYERS:
        yield f"says it has {block_count} layers; {_MOST_LAYERS} is the most"
    next_n = header.values.get(own + "nextn_predict_layers", 0)
    if not isinstance(next_n, int) or not 0 <= next_n <= block_count:
        yield f"says {own}nextn_predict_layers is {str(next_n)[:20]}, of {block_count} layers"
    heads = per_layer(header, own + "attention.head_count")
    heads_kv = per_layer(header, own + "attention.head_count_kv") or heads
    for values in (heads, heads_kv):
        if len(values) > 1 and len(values) != block_count:
            yield f"gives {len(values)} layers a number of heads, but has {block_count}"
    longest = max(len(heads), len(heads_kv))
    if len(heads) == 1:
        heads *= longest
    if len(heads_kv) == 1:
        heads_kv *= longest
    for layer, (n_head, n_head_kv) in enumerate(zip(heads, heads_kv, strict=False)):
        # ggml_mul_mat repeats each KV head for a whole number of heads.
        if n_head < 0 or n_head_kv < 0 or (n_head_kv and n_head % n_head_kv):
            yield f"gives layer {layer} {n_head} heads over {n_head_kv} KV heads, which do not divide them"


def _wrong_numbers(header: Header, metadata: ModelMetadata) -> Iterator[str]:
    """Values that llama.cpp accepts when it loads, and asserts when it computes."""
    own = metadata.architecture + "."
    for key, value in header.values.items():
        # ggml_rms_norm and ggml_norm; "not >=" is true of NaN as well
        if key.startswith(own) and key.endswith("_epsilon") and isinstance(value, int | float) and not value >= 0:
            yield f"says {key} is {value}; 0 is the least"
    inner_size = header.values.get(own + "ssm.inner_size")
    if metadata.architecture in {"jamba", "granitehybrid"} and inner_size != 2 * (metadata.embedding_length or 0):
        yield f"says {own}ssm.inner_size is {str(inner_size)[:20]}; twice {own}embedding_length is right"
    scaling = header.values.get(own + "rope.scaling.type", "none")
    if scaling not in _ROPE_SCALINGS:
        yield f"has the rope scaling {str(scaling)[:40]!r}; {', '.join(_ROPE_SCALINGS)} are known"
    pooling = header.values.get(own + "pooling_type")
    if isinstance(pooling, int) and metadata.pooling is None and pooling not in (-1, _UNSPECIFIED):
        yield f"says {own}pooling_type is {pooling}; 0 to 4 are known"
    pattern = header.values.get(own + "attention.sliding_window_pattern")
    if metadata.sliding_window and (pattern == 1 or (isinstance(pattern, list) and pattern and not any(pattern))):
        yield "has a sliding window, but no layer that uses it"


def _wrong_experts(header: Header, metadata: ModelMetadata) -> Iterator[str]:
    """As the assertions of llama_model_base::load_hparams."""
    own = metadata.architecture + "."
    n_expert = metadata.expert_count
    n_used = max(per_layer(header, own + "expert_used_count"), default=0)
    n_groups = max(per_layer(header, own + "expert_group_count"), default=0)
    n_groups_used = max(per_layer(header, own + "expert_group_used_count"), default=0)
    if not 0 <= n_expert <= _MOST_EXPERTS:
        yield f"says it has {n_expert} experts; {_MOST_EXPERTS} is the most"
    # hunyuan models of one expert name it, and llama.cpp then counts none.
    if metadata.architecture.startswith("hunyuan") and n_expert <= 1:
        return
    if not (0 < n_used <= n_expert if n_expert else n_used == 0):
        yield f"says it uses {n_used} of {n_expert} experts at a time"
    if n_expert and n_groups >= n_expert:
        yield f"says it has {n_groups} groups of {n_expert} experts"
    if n_groups > 1 and (n_expert % n_groups or not 0 < n_groups_used < n_groups):
        yield f"says it uses {n_groups_used} of {n_groups} groups of {n_expert} experts"


def _wrong_tokens(path: Path, header: Header, metadata: ModelMetadata) -> Iterator[str]:
    tokens = header.values.get("tokenizer.ggml.tokens")
    if metadata.tokenizer in (None, "no_vocab", "none"):
        return
    if not isinstance(tokens, Array) or tokens.type != STRING or not tokens.n_elements:
        yield "has a tokenizer but no tokens"
        return
    if tokens.end - tokens.start > LONGEST_VOCABULARY:
        yield f"has a vocabulary of {tokens.end - tokens.start} bytes, which no model has"
        return
    ids: dict[str, Value | None] = {
        name: header.values.get(f"tokenizer.ggml.{name}_token_id") for name in _SPECIAL_TOKENS
    }
    for name, value in ids.items():
        if isinstance(value, int) and value != _UNSPECIFIED and not 0 <= value < tokens.n_elements:
            yield f"has {name} token id {value}, but only {tokens.n_elements} tokens"
    # Tokenizing asserts that there is a token to add where one is to be added.
    added = {"bos": _DEFAULT_BOS, "eos": _DEFAULT_EOS}
    for name, defaults in added.items():
        given = ids[name] if ids[name] not in (None, _UNSPECIFIED) else defaults.get(metadata.tokenizer or "", -1)
        wanted = header.values.get(f"tokenizer.ggml.add_{name}_token", name == "bos" and metadata.tokenizer == "bert")
        if wanted is True and not (isinstance(given, int) and 0 <= given < tokens.n_elements):
            yield f"wants a {name} token added to each text, but names none"
    if metadata.tokenizer == "bert" and _BYTE in _integers(path, header.values.get("tokenizer.ggml.token_type")):
        yield "has tokens that stand for single bytes, which a vocabulary of word pieces cannot have"  # token_to_byte
    duplicate = first_duplicate(read_array(path, tokens), tokens.n_elements)
    if duplicate is not None:
        yield f"has the token {duplicate[:40].decode(errors='replace')!r} twice in its vocabulary"


def _integers(path: Path, value: Value | None) -> list[int | float] | array[int]:
    """A list of numbers, or an array of i32."""
    if isinstance(value, list):
        return [number for number in value if isinstance(number, int | float)]
    if not isinstance(value, Array) or value.type != INT32:
        return []
    numbers = array("i")
    numbers.frombytes(read_array(path, value))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _check_other_parts(path: Path, metadata: ModelMetadata) -> None:
    """Split files are named NAME-00001-of-00003.gguf; llama.cpp loads the first and finds the others by name."""
    count = metadata.split_count
    suffix = f"-00001-of-{count:05}.gguf"
    if metadata.split_no != 0 or not path.name.endswith(suffix):
        raise InvalidModelFile(str(path), f"is one of {count} parts; give the first, whose name ends in {suffix}")
    for number in range(2, count + 1):
        part = path.with_name(f"{path.name.removesuffix(suffix)}-{number:05}-of-{count:05}.gguf")
        if not part.exists():
            raise InvalidModelFile(str(path), f"needs part {number} of {count}, and {part.name} is missing")
        header = read_header(part)
        # Read without asking for its type: gguf_get_val_u16 asserts.
        if header.types.get("split.no") != UINT16 or header.values["split.no"] != number - 1:
            raise InvalidModelFile(str(part), f"does not say that it is part {number} of {count}")
        for reason in wrong_tensors(header):
            raise InvalidModelFile(str(part), reason)
