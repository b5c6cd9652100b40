"""Projectors are shown with the models that they came with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from shimmy.models.discovery import discover
from tests.models.homes import config_of
from tests.models.trees import put
from tests.tiny.models import write_llama, write_moe


def write_projector(
    path: Path, *, basename: str | None = None, length: int = 64, dtype: type[np.floating] = np.float16
) -> Path:
    """A clip, as llama.cpp's converter writes it with --mmproj."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    if basename is not None:
        writer.add_basename(basename)
    writer.add_uint32("clip.vision.projection_dim", length)
    writer.add_tensor("mm.0.weight", np.zeros((32, 32), dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def projectors(home: Path) -> dict[str, str | None]:
    found = discover(config_of(home)).found
    return {model.path.name: model.projector.name if model.projector else None for model in found}


def skipped(home: Path) -> set[str]:
    return {one.path.name for one in discover(config_of(home)).skipped}


def test_a_projector_is_that_of_the_model_beside_it(home: Path, tiny: bytes, other: bytes) -> None:
    put(home / "models/a/one.gguf", tiny)
    put(home / "models/a/one-again.gguf", other)
    put(home / "models/b/two.gguf", tiny + b"x")
    write_projector(home / "models/a/mmproj.gguf")
    assert projectors(home) == {"one.gguf": "mmproj.gguf", "one-again.gguf": "mmproj.gguf", "two.gguf": None}
    assert skipped(home) == set()


def test_beside_models_of_different_kinds_it_is_nobody_s(home: Path, tiny: bytes) -> None:
    put(home / "models/one.gguf", tiny)
    write_moe(home / "models/two.gguf")
    write_projector(home / "models/mmproj.gguf")
    assert projectors(home) == {"one.gguf": None, "two.gguf": None}
    assert skipped(home) == {"mmproj.gguf"}


def test_of_several_that_of_full_quality_and_least_size_is_taken(home: Path, tiny: bytes) -> None:
    put(home / "models/one.gguf", tiny)
    write_projector(home / "models/mmproj-f32.gguf", dtype=np.float32)
    write_projector(home / "models/mmproj-f16.gguf")
    assert projectors(home) == {"one.gguf": "mmproj-f16.gguf"}


def test_of_several_that_whose_output_fits_the_model_is_taken(home: Path, tiny: bytes) -> None:
    put(home / "models/one.gguf", tiny)
    write_projector(home / "models/a-mmproj.gguf", length=4096)
    write_projector(home / "models/b-mmproj.gguf", length=64)
    assert projectors(home) == {"one.gguf": "b-mmproj.gguf"}


def test_a_projector_that_names_its_model_is_that_one_s(home: Path) -> None:
    (home / "models").mkdir()
    write_llama(home / "models/named.gguf")
    named = GGUFWriter(home / "models/based.gguf", "llama")
    named.add_basename("Based")
    named.add_tensor("token_embd.weight", np.zeros((3, 32), np.float32))
    named.write_header_to_file()
    named.write_kv_data_to_file()
    named.write_tensors_to_file()
    named.close()
    write_projector(home / "models/mmproj.gguf", basename="Based")
    assert projectors(home) == {"based.gguf": "mmproj.gguf", "named.gguf": None}
