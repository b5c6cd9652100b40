"""A model's LoRA adapters: loaded beside it, and chosen by each request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from shimmy.errors import InvalidRequest
from shimmy.native.adapter import Adapter
from shimmy.native.model import Model
from shimmy.setting import LARGEST_FLOAT
from shimmy.types import MAX_ADAPTERS, LoraSet


def load_adapters(model: Model, files: Sequence[tuple[str, float]]) -> tuple[list[Adapter], LoraSet]:
    """The adapters, in their order, and the set that a request has which names none.

    Raises InvalidRequest (param "lora") for a file that does not fit the model, a scale that is no number, too many.
    """
    if len(files) > MAX_ADAPTERS:
        raise InvalidRequest(f"{len(files)} adapters were given; {MAX_ADAPTERS} are allowed", param="lora")
    default = choose_adapters([(index, scale) for index, (_, scale) in enumerate(files)], len(files))
    return [Adapter(model, Path(path)) for path, _ in files], default


def choose_adapters(wanted: Sequence[tuple[int, float]], n_loaded: int) -> LoraSet:
    """``wanted`` in the one form that equal sets share.

    Raises InvalidRequest (param "lora") for an index that is not loaded or comes twice, a scale that is no number.
    """
    for index, scale in wanted:
        if not 0 <= index < n_loaded:
            there = f"there are {n_loaded}, counted from 0" if n_loaded else "none was loaded with the model"
            raise InvalidRequest(f"lora names adapter {index}: {there}", param="lora")
        if not math.isfinite(scale) or abs(scale) > LARGEST_FLOAT:
            raise InvalidRequest(f"lora has the scale {scale:g}: it must be a finite number", param="lora")
    indices = [index for index, _ in wanted]
    if len(set(indices)) < len(indices):
        raise InvalidRequest("lora names an adapter twice", param="lora")
    return tuple(sorted((index, scale) for index, scale in wanted if scale))
