"""Writers of LoRA adapters for the tiny models, and of models with an adapter merged into their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.gguf_writer import GGUFValue
from numpy.typing import NDArray

from tests.wide import write_like

EMBEDDINGS = "token_embd.weight"
Pairs = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def architecture_of(model: Path) -> str:
    """``general.architecture`` of a GGUF file."""
    return str(GGUFReader(model).fields["general.architecture"].contents())


def weights_of(model: Path) -> dict[str, NDArray[np.float32]]:
    """Every tensor of a GGUF file as 32-bit floats, rows first."""
    return {tensor.name: np.asarray(tensor.data, dtype=np.float32) for tensor in GGUFReader(model).tensors}


def random_pairs(model: Path, names: Sequence[str], *, rank: int = 4, seed: int = 0, size: float = 0.2) -> Pairs:
    """Random A and B for these weights, strong enough to change the text."""
    random = np.random.default_rng(seed)
    pairs: Pairs = {}
    weights = weights_of(model)
    for name in names:
        *depth, n_out, n_in = weights[name].shape
        shape_a, shape_b = (*depth, rank, n_in), (*depth, n_out, rank)
        if name == EMBEDDINGS:  # looked up, not multiplied: A has a row for each token
            shape_a, shape_b = (n_out, rank), (n_in, rank)
        a, b = (random.standard_normal(shape) * size for shape in (shape_a, shape_b))
        pairs[name] = a.astype(np.float32), b.astype(np.float32)
    return pairs


def write_adapter(
    path: Path,
    pairs: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    *,
    architecture: str = "llama",
    alpha: float | None = 8.0,
    general_type: str = "adapter",
    adapter_type: str = "lora",
    invocation_tokens: Sequence[int] = (),
    numeric: str = "",
) -> Path:
    """A GGUF adapter as llama.cpp's convert_lora_to_gguf.py writes it; the value of key ``numeric`` is a whole number."""
    writer = GGUFWriter(path, architecture)
    writer.add_type(general_type)
    writer.add_name("Tiny adapter")
    writer.add_string("adapter.type", adapter_type)
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    if invocation_tokens:
        writer.add_array("adapter.alora.invocation_tokens", list(invocation_tokens))
    if numeric:
        writer.kv_data[0][numeric] = GGUFValue(1, GGUFValueType.UINT32)
    for name, (a, b) in pairs.items():
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_merged(source: Path, target: Path, merged: Sequence[tuple[Pairs, float, float]]) -> Path:
    """``source`` with weights of 32 bits and the adapters (pairs, alpha, scale) added: W + scale * alpha / rank * B A."""
    weights = weights_of(source)
    for pairs, alpha, scale in merged:
        for name, (a, b) in pairs.items():
            factor = scale * alpha / b.shape[-1] if alpha else scale
            weights[name] = weights[name] + factor * (a @ b.T if name == EMBEDDINGS else b @ a)
    return write_like(source, target, weights)
