"""Small models of any architecture, grown from llama.cpp's own complaints about what is missing.

llama.cpp names each key and tensor that it misses, and the shape that it expects: what it asks for is added until it
loads the file. The weights are random.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import numpy as np
from image import STRING, Image, Tensor, Value
from mutations import architecture_of
from trial import load_complaint

_MOST_STEPS = 600
# Sizes that fit together; what is not named is _OTHER.
_NUMBERS = {
    "block_count": 2,
    "context_length": 256,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 16,
    "attention.value_length": 16,
    "rope.dimension_count": 16,
    "attention.sliding_window": 16,
    "attention.kv_lora_rank": 16,
    "attention.q_lora_rank": 16,
    "attention.key_length_mla": 16,
    "attention.value_length_mla": 16,
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_feed_forward_length": 32,
    "expert_shared_feed_forward_length": 32,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 128,
    "ssm.state_size": 16,
    "ssm.time_step_rank": 4,
    "ssm.group_count": 1,
    "wkv.head_size": 16,
    "leading_dense_block_count": 1,
}
_OTHER = 2
_TYPES = {"u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "str": STRING, "u64": 10}


def grow(architecture: str, seedling: Image, path: Path) -> Image | None:
    """A model of ``architecture`` that loads, with the tokenizer of ``seedling``; None where none could be found."""
    image = Image([(key, value) for key, value in seedling.values if key.startswith((b"tokenizer.", b"general."))])
    image.values = [(key, value) for key, value in image.values if key != b"general.architecture"]
    image.values.insert(0, (b"general.architecture", Value(STRING, architecture.encode())))
    for name in list(_NUMBERS)[:8]:
        image.values.append((f"{architecture}.{name}".encode(), Value(4, _NUMBERS[name])))
    random = Random(architecture)  # noqa: S311 - the same each time
    for _ in range(_MOST_STEPS):
        image.write(path)
        complaint = load_complaint(path)
        if complaint is None:
            return image
        if not _mend(image, complaint, random):
            return None
    return None


def _mend(image: Image, complaint: str, random: Random) -> bool:
    """Adds what ``complaint`` asks for; False where it asks for nothing that is known here."""
    if match := re.search(r"key not found in model: ([^\s;]+)", complaint):
        image.values.append((match[1].encode(), _guess(match[1], architecture_of(image).decode())))
    elif match := re.search(r"key (\S+) has wrong type \w+ but expected type (\w+)", complaint):
        return _retype(image, match[1].encode(), match[2])
    elif match := re.search(r"tensor '([^']+)' not found", complaint):
        image.tensors.append(Tensor(match[1].encode(), [1], 0))
    elif match := re.search(r"tensor '([^']+)' has wrong shape; expected ([\d, ]+), got", complaint):
        shape = [int(number) for number in match[2].replace(" ", "").strip(",").split(",")]
        _reshape(image, match[1].encode(), shape, random)
    else:
        return False
    return True


def _guess(key: str, architecture: str) -> Value:
    name = key.removeprefix(architecture + ".")
    if "eps" in name or "scale" in name or "freq" in name:
        return Value(6, 1e-5 if "eps" in name else 1.0)
    return Value(4, _NUMBERS.get(name, _OTHER))


def _retype(image: Image, key: bytes, kind: str) -> bool:
    for own, value in image.values:
        if own == key and kind in _TYPES:
            value.kind, value.is_array = _TYPES[kind], False
            value.value = {"f32": 1.0, "bool": False, "str": b"x"}.get(kind, _OTHER)
            return True
    return False


def _reshape(image: Image, name: bytes, shape: list[int], random: Random) -> None:
    numbers = np.random.default_rng(random.randrange(1 << 32))
    for tensor in image.tensors:
        if tensor.name == name:
            while len(shape) > 1 and shape[-1] == 1:
                shape.pop()
            tensor.shape = shape
            tensor.data = (numbers.standard_normal(int(np.prod(shape))) * 0.1).astype(np.float32).tobytes()
