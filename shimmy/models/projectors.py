"""Which projector (the part that sees images or hears sounds) belongs to which model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from shimmy.models.metadata import ModelMetadata

_BEST = ("F16", "BF16", "F32", "Q8_0")  # as llama.cpp's users prefer them: small, and nothing is lost


class Projector(NamedTuple):
    """A projector's file, and the group of files that it came with: a folder, or one repository."""

    path: Path
    group: object
    metadata: ModelMetadata


def projector_of(
    group: object, model: ModelMetadata, projectors: Sequence[Projector], others: Iterable[ModelMetadata]
) -> Path | None:
    """The one that came with ``model``; None where there is none, or where it may as well be another model's.

    ``others``: all models of the group. A projector that names what it is of (general.basename) belongs to models of that
    name, else to all of its group where these are one model in several quantizations; of several the one whose output is as
    long as the model's embeddings.
    """
    beside = [projector for projector in projectors if projector.group == group]
    own = [projector for projector in beside if projector.metadata.basename == model.basename is not None]
    if not own and len({_family(other) for other in others}) == 1:
        own = beside
    if not own:
        return None
    return min(own, key=lambda projector: _rank(projector, model)).path


def _family(model: ModelMetadata) -> tuple[object, ...]:
    return model.architecture, model.embedding_length, model.block_count, model.vocabulary_size


def _rank(projector: Projector, model: ModelMetadata) -> tuple[bool, int, str]:
    metadata = projector.metadata
    best = _BEST.index(metadata.quantization) if metadata.quantization in _BEST else len(_BEST)
    return metadata.projection_length != model.embedding_length, best, projector.path.name
