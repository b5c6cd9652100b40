"""Changes of a model file that a broken converter, a bad disk or an attacker could make, each from one random source."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from image import SCALARS, STRING, Image, Tensor, Value

from shimmy.models.quantization import TENSOR_TYPES

Mutation = Callable[[Image, Random], str]

ARCHITECTURES = (
    "llama llama4 deci falcon grok gpt2 gptj gptneox mpt baichuan starcoder refact bert modern-bert nomic-bert"
    " nomic-bert-moe jina-bert-v2 eurobert bloom stablelm qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3next qwen35"
    " phi2 phi3 phimoe plamo plamo2 orion internlm2 minicpm minicpm3 gemma gemma2 gemma3 gemma3n gemma4 gemma-embedding"
    " starcoder2 mamba mamba2 jamba falcon-h1 command-r cohere2 dbrx olmo olmo2 olmoe openelm arctic deepseek deepseek2"
    " deepseek4 chatglm glm4 glm4moe bitnet t5 t5encoder jais nemotron nemotron_h exaone exaone4 rwkv6 rwkv7 granite"
    " granitemoe granitehybrid chameleon wavtokenizer-dec plm bailingmoe dots1 arcee ernie4_5 hunyuan-moe smollm3"
    " gpt-oss lfm2 lfm2moe dream smallthinker llada grovemoe apertus minimax-m2 cogvlm mistral3 kimi-linear eagle3"
).split()
_TOKENIZERS = "llama gpt2 bert t5 rwkv plamo2 gemma4 none no_vocab other".split()
_PRE_TOKENIZERS = "default llama-bpe qwen2 deepseek-llm gpt-4o tekken smaug-bpe chameleon gemma4 nothing".split()
_TEMPLATES = (
    b"",
    b"{{",
    b"{% for %}",
    b"{{ raise_exception('no') }}",
    b"{{ messages[99].content }}",
    b"\xff\xfe",
    b"x" * 5000,
)
_INTEGERS = (0, 1, 2, 3, 7, 16, 31, 64, 100, 255, 256, 512, 513, 1024, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-38, 1e38, float("inf"), float("-inf"), float("nan"), 1e-6, 10000.0)


def known_keys(library: Path) -> tuple[bytes, ...]:
    """The keys that llama.cpp may ask a file for, as its library has them; "%s" stands for the architecture."""
    found = re.findall(rb"(?<=\0)(?:%s|tokenizer\.ggml|general)\.[a-z0-9_.]+(?=\0)", library.read_bytes())
    return tuple(sorted(set(found)))


class Mutator:
    """Draws mutations; ``keys`` are those of ``known_keys``."""

    def __init__(self, random: Random, keys: tuple[bytes, ...]) -> None:
        self._random = random
        self._keys = keys
        self._mutations: tuple[tuple[int, Mutation], ...] = (
            (8, change_number),
            (2, change_type),
            (2, remove_key),
            (5, self._add_key),
            (3, change_array),
            (2, change_tokens),
            (2, change_text),
            (1, change_architecture),
            (5, change_shape),
            (3, change_tensor_type),
            (1, remove_tensor),
            (1, rename_tensor),
            (1, change_offset),
            (2, change_weights),
        )

    def mutate(self, image: Image) -> tuple[Image, str]:
        """A copy with one to three changes, and what they are."""
        image = Image([(key, copy.copy(value)) for key, value in image.values], [copy.copy(t) for t in image.tensors])
        weights = [weight for weight, _ in self._mutations]
        chosen = self._random.choices(
            [mutation for _, mutation in self._mutations], weights, k=self._random.choice([1, 1, 1, 2, 3])
        )
        return image, "; ".join(mutation(image, self._random) for mutation in chosen)

    def _add_key(self, image: Image, random: Random) -> str:
        key = random.choice(self._keys).replace(b"%s", architecture_of(image))
        kind = random.choice((4, 4, 4, 5, 6, 7, STRING))
        value = Value(kind, b"x" if kind == STRING else _number(kind, 0, random), is_array=False)
        if random.random() < 0.2 and kind != STRING:
            value = Value(kind, [_number(kind, 0, random) for _ in range(random.choice((1, 2, 4, 8)))], is_array=True)
        image.values = [(own, old) for own, old in image.values if own != key]
        image.values.append((key, value))
        return f"{key.decode()} = {_shown(value.value)}"


def architecture_of(image: Image) -> bytes:
    """The architecture that the file names."""
    named = (value.value for key, value in image.values if key == b"general.architecture")
    return next((name for name in named if isinstance(name, bytes)), b"llama")


def _pick(image: Image, random: Random, fits: Callable[[Value], bool]) -> tuple[bytes, Value] | None:
    fitting = [(key, value) for key, value in image.values if fits(value)]
    return random.choice(fitting) if fitting else None


def _number(kind: int, old: Any, random: Random) -> Any:
    if kind == 7:
        return random.random() < 0.5
    if kind in {6, 12}:
        return random.choice((*_FLOATS, float(old) * 2, float(old) / 2))
    near = [int(old) + 1, int(old) - 1, int(old) * 2, int(old) // 2, -1, random.randrange(1 << 32)]
    bits = {0: 8, 1: 8, 2: 16, 3: 16, 10: 64, 11: 64}.get(kind, 32)
    value = random.choice((*_INTEGERS, *near, *near)) % 2**bits
    return value - 2**bits if kind in {1, 3, 5, 11} and value >= 2 ** (bits - 1) else value


def change_number(image: Image, random: Random) -> str:
    """Another value for a number."""
    found = _pick(image, random, lambda value: not value.is_array and value.kind in SCALARS)
    if found is None:
        return "nothing"
    key, value = found
    old, value.value = value.value, _number(value.kind, value.value, random)
    return f"{key.decode()} {old} -> {value.value}"


def change_type(image: Image, random: Random) -> str:
    """The same key with another type."""
    key, value = random.choice(image.values)
    value.kind, value.is_array = random.choice([*SCALARS, STRING]), random.random() < 0.2
    one = b"x" if value.kind == STRING else _number(value.kind, 1, random)
    value.value = [one] * random.choice((0, 1, 2, 3)) if value.is_array else one
    return f"{key.decode()} is of type {value.kind}{'[]' * value.is_array}: {_shown(value.value)}"


def remove_key(image: Image, random: Random) -> str:
    """One key less."""
    key, _ = image.values.pop(random.randrange(len(image.values)))
    return f"no {key.decode()}"


def change_array(image: Image, random: Random) -> str:
    """An array that is shorter, longer or has another element."""
    found = _pick(image, random, lambda value: value.is_array and bool(value.value))
    if found is None:
        return "nothing"
    key, value = found
    how, values = random.randrange(3), list(value.value)
    if how == 0:
        values = values[: random.randrange(len(values))]
    elif how == 1:
        values += values[: random.randrange(len(values)) + 1]
    elif value.kind in SCALARS:
        values[random.randrange(len(values))] = _number(value.kind, values[0], random)
    value.value = values
    return f"{key.decode()}: {len(values)} elements"


def change_tokens(image: Image, random: Random) -> str:
    """Texts of a vocabulary or of its merges that are empty, no UTF-8, long or strange."""
    found = _pick(image, random, lambda value: value.is_array and value.kind == STRING and bool(value.value))
    if found is None:
        return "nothing"
    key, value = found
    value.value = list(value.value)
    texts = (b"", b"\xff\xfe", b"a b c", b" ", b"\xe2\x96\x81", b"<0x0A>", b"<0xZZ>", b"x" * 100_000, b"\0", b"ab")
    for _ in range(random.choice((1, 1, 5, 50))):
        value.value[random.randrange(len(value.value))] = random.choice(texts) + random.choice(
            (b"", random.randbytes(2))
        )
    return f"{key.decode()}: strange texts"


def change_text(image: Image, random: Random) -> str:
    """Another tokenizer, template or name."""
    found = _pick(image, random, lambda value: not value.is_array and value.kind == STRING)
    if found is None:
        return "nothing"
    key, value = found
    if key.endswith(b"ggml.model"):
        value.value = random.choice(_TOKENIZERS).encode()
    elif key.endswith(b"ggml.pre"):
        value.value = random.choice(_PRE_TOKENIZERS).encode()
    elif key.endswith(b"architecture"):
        return change_architecture(image, random)
    else:
        value.value = random.choice(_TEMPLATES)
    return f"{key.decode()} = {_shown(value.value)}"


def change_architecture(image: Image, random: Random) -> str:
    """Another architecture with the same keys and tensors."""
    old, new = architecture_of(image), random.choice(ARCHITECTURES).encode()
    image.values = [
        (new + key.removeprefix(old) if key.startswith(old + b".") else key, value) for key, value in image.values
    ]
    for key, value in image.values:
        if key == b"general.architecture":
            value.kind, value.value, value.is_array = STRING, new, False
    return f"architecture {new.decode()}"


def _tensor(image: Image, random: Random) -> Tensor | None:
    return random.choice(image.tensors) if image.tensors else None


def change_shape(image: Image, random: Random) -> str:
    """A tensor of another shape, its bytes made to fit."""
    tensor = _tensor(image, random)
    if tensor is None:
        return "nothing"
    shape, how = list(tensor.shape), random.randrange(5)
    if how == 0:
        shape.reverse()
    elif how == 1 and len(shape) < 4:
        shape.append(random.choice((1, 2)))
    elif how == 2 and len(shape) > 1:
        shape.pop(random.randrange(len(shape)))
    else:
        at = random.randrange(len(shape)) if shape else 0
        shape[at : at + 1] = [random.choice((0, 1, 2, 32, 63, 64, 65, 256, shape[at] * 2 if shape else 1))]
    old, tensor.shape = tensor.shape, shape
    if tensor.data is not None:
        tensor.data = (tensor.data * (tensor.n_bytes // max(1, len(tensor.data)) + 1))[: tensor.n_bytes]
    return f"{tensor.name.decode(errors='replace')} {old} -> {shape}"


def change_tensor_type(image: Image, random: Random) -> str:
    """A tensor of another type, its bytes made to fit."""
    tensor = _tensor(image, random)
    if tensor is None:
        return "nothing"
    tensor.kind = random.choice([*TENSOR_TYPES, *TENSOR_TYPES, 999])
    if tensor.data:
        tensor.data = (tensor.data * (tensor.n_bytes // len(tensor.data) + 1))[: tensor.n_bytes]
    return f"{tensor.name.decode(errors='replace')} of type {tensor.kind}"


def remove_tensor(image: Image, random: Random) -> str:
    """One tensor less."""
    if not image.tensors:
        return "nothing"
    return f"no {image.tensors.pop(random.randrange(len(image.tensors))).name.decode(errors='replace')}"


def rename_tensor(image: Image, random: Random) -> str:
    """A tensor of another name, or a second one of the same."""
    tensor = _tensor(image, random)
    if tensor is None:
        return "nothing"
    old = tensor.name
    other = random.choice(image.tensors).name
    tensor.name = random.choice(
        (other, old[:-1], old.replace(b"blk.0", b"blk.9"), b"", old + b".bias", b"rope_freqs.weight")
    )
    return f"{old.decode(errors='replace')} is called {tensor.name.decode(errors='replace')}"


def change_offset(image: Image, random: Random) -> str:
    """A tensor somewhere else."""
    tensor = _tensor(image, random)
    if tensor is None:
        return "nothing"
    tensor.offset = random.choice((0, 1, 32, 2**31, 2**63, 2**64 - 32))
    return f"{tensor.name.decode(errors='replace')} at {tensor.offset}"


def change_weights(image: Image, random: Random) -> str:
    """Weights that are noise, or no numbers at all."""
    tensor = _tensor(image, random)
    if tensor is None:
        return "nothing"
    n = min(tensor.n_bytes, 1 << 22)
    tensor.data = random.choice((random.randbytes(n), b"\xff" * n, b"\x00\x7c" * (n // 2), bytes(n)))
    return f"weights of {tensor.name.decode(errors='replace')}"


def _shown(value: Any) -> str:
    return repr(value)[:40]
