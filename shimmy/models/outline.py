"""A model file without what makes it large, its weights and its vocabulary: what loading takes can be seen of the rest."""

from __future__ import annotations

from pathlib import Path
from struct import Struct

from shimmy.errors import InvalidModelFile
from shimmy.models.gguf_file import Array, Header

_COUNT = Struct("<Q")


def outline_of(path: Path, header: Header) -> bytes:
    """The header of the file at ``path``, up to where the weights begin, with the vocabulary's lists empty.

    A few dozen KB, where the header has megabytes. Raises InvalidModelFile where the file cannot be read any more.
    """
    try:
        with path.open("rb", buffering=0) as file:
            data = file.read(header.tensors_end)
    except OSError as error:
        raise InvalidModelFile(str(path), f"cannot be read: {error.strerror or error}") from None
    parts: list[bytes] = []
    position = 0
    for key, value in header.values.items():
        if isinstance(value, Array) and key.startswith("tokenizer."):
            parts += [data[position : value.start - _COUNT.size], _COUNT.pack(0)]  # their number stands before them
            position = value.end
    short = b"".join([*parts, data[position:]])
    return short.ljust(-(-len(short) // header.alignment) * header.alignment, b"\0")
