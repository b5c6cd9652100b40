"""The header of a GGUF file: its keys and values, and where its tensors lie.

Only the header is read, in windows, by ordinary reads: a file that is cut short while it is read gives an error
and not a SIGBUS, and memory stays bounded whatever the file claims. Long arrays are stepped over (a vocabulary of
262,144 tokens takes about 10 ms instead of the 9.5 s of `gguf.GGUFReader`, which makes an array object per string).
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple

from shimmy.errors import InvalidModelFile
from shimmy.models.quantization import TENSOR_TYPES
from shimmy.models.string_array import step_over

_WINDOW = 1 << 18
_LONGEST_TEXT = 1 << 24
_LONGEST_NAME = 1 << 16
# Arrays up to this many elements are kept as lists: one value for each of at most 512 layers fits.
_LONGEST_LIST = 1024
# No model comes near these; they bound the time that a file of nonsense takes.
_MOST_KEYS = 1 << 16
_MOST_TENSORS = 1 << 17
_MOST_STRINGS = 1 << 23
LONGEST_VOCABULARY = 1 << 28

_U32, _U64 = Struct("<I"), Struct("<Q")
UINT16, INT32, STRING, ARRAY = 2, 5, 8, 9
_SCALARS = {
    0: Struct("<B"),
    1: Struct("<b"),
    UINT16: Struct("<H"),
    3: Struct("<h"),
    4: Struct("<I"),
    INT32: Struct("<i"),
    6: Struct("<f"),
    7: Struct("<?"),
    10: Struct("<Q"),
    11: Struct("<q"),
    12: Struct("<d"),
}
# What follows a tensor's name: the lengths of its dimensions, its type and its offset.
_SHAPES = [Struct(f"<{n_dims}QIQ") for n_dims in range(5)]
# What people have in place of a GGUF file, by how it begins.
_MISTAKEN = (
    (b"GGJT", "an old GGML file; convert the model to GGUF again"),
    (b"tjgg", "an old GGML file; convert the model to GGUF again"),
    (b"lmgg", "an old GGML file; convert the model to GGUF again"),
    (b"fmgg", "an old GGML file; convert the model to GGUF again"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"version https://git-lfs", "a git-lfs pointer and not the file itself; run 'git lfs pull'"),
    (b"<", "a web page; the download went wrong"),
)


class Array(NamedTuple):
    """An array that was stepped over: its elements lie in the file from ``start`` to ``end``."""

    type: int
    n_elements: int
    start: int
    end: int


Scalar = str | int | float | bool
Value = Scalar | list[Scalar] | Array


class Tensor(NamedTuple):
    """A tensor; ``offset`` counts from the start of the data, ``type`` is a key of TENSOR_TYPES."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def n_elements(self) -> int:
        """How many weights it has."""
        return prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """How many bytes of the file it takes."""
        kind = TENSOR_TYPES[self.type]
        return self.n_elements // kind.block_size * kind.type_size


class Header(NamedTuple):
    """All that is said before the weights begin. ``types`` are the GGUF types of the values; at ``tensors_end`` the last tensor was named."""

    version: int
    values: dict[str, Value]
    types: dict[str, int]
    tensors: list[Tensor]
    alignment: int
    tensors_end: int
    data_start: int
    file_size: int


def read_header(path: Path) -> Header:
    """The header of the file at ``path``.

    Raises InvalidModelFile for everything that is no whole GGUF header of version 2 or 3: names that are taken
    twice, unknown types, shapes that overflow, and files that cannot be read at all.
    """
    try:
        if path.is_dir():
            raise InvalidModelFile(str(path), "is a folder; name the .gguf file in it")
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, 2)
            return _Reader(path, file, size).header()
    except FileNotFoundError:
        raise InvalidModelFile(str(path), "there is no such file") from None
    except PermissionError:
        raise InvalidModelFile(str(path), "may not be read; check its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise InvalidModelFile(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def mistaken_for(start: bytes) -> str:
    """What a file is, with what to do, that begins with ``start`` and not like a GGUF file."""
    return next((what for beginning, what in _MISTAKEN if start.startswith(beginning)), "no GGUF file")


def read_array(path: Path, array: Array) -> bytes:
    """The bytes of an array that ``read_header`` stepped over in the same file."""
    length = array.end - array.start
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(array.start)
            data = file.read(length)
    except OSError as error:
        raise InvalidModelFile(str(path), f"cannot be read: {error.strerror or error}") from None
    if len(data) < length:
        raise InvalidModelFile(str(path), "changed while it was read")
    return data


class _Reader:
    """Reads a header from front to back; ``position`` is the next byte's place in the file."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path = str(path)
        self._file = file
        self._size = size
        self._window = b""
        self._base = 0
        self.position = 0

    def header(self) -> Header:
        """The whole header."""
        version = self._preamble()
        n_tensors, n_keys = self._number(_U64), self._number(_U64)
        if n_tensors > _MOST_TENSORS or n_keys > _MOST_KEYS:
            raise self._wrong(f"claims {n_tensors} tensors and {n_keys} keys, which no model has")
        values: dict[str, Value] = {}
        types: dict[str, int] = {}
        for _ in range(n_keys):
            key = self._text(_LONGEST_NAME)
            if not key or key in values:
                raise self._wrong(f"has the key {key[:100]!r} twice" if key else "has a key without a name")
            types[key] = kind = self._number(_U32)
            values[key] = self._value(key, kind)
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise self._wrong(f"has an alignment of {str(alignment)[:40]!r}, which is no power of two")
        tensors: dict[str, Tensor] = {}
        for _ in range(n_tensors):
            tensor = self._tensor()
            if tensor.name in tensors:
                raise self._wrong(f"has the tensor {tensor.name!r} twice")
            tensors[tensor.name] = tensor
        data_start = -(-self.position // alignment) * alignment
        return Header(version, values, types, list(tensors.values()), alignment, self.position, data_start, self._size)

    def _preamble(self) -> int:
        if self._size == 0:
            raise self._wrong("is empty")
        start = self._fill(min(self._size, 32))
        if not start.startswith(b"GGUF"):
            raise self._wrong(f"is {mistaken_for(start)}")
        self.position = 4
        version = self._number(_U32)
        if version & 0xFFFF == 0 and version:
            raise self._wrong("is a big-endian GGUF file; use the little-endian one of this model")
        if version not in (2, 3):
            raise self._wrong(f"has GGUF version {version}; versions 2 and 3 can be read")
        return version

    def _tensor(self) -> Tensor:
        name = self._text(_LONGEST_NAME)
        if len(name.encode(errors="replace")) >= 64:
            raise self._wrong(f"has a tensor with a name longer than 63 bytes: {name[:80]!r}")
        n_dims = self._number(_U32)
        if n_dims > 4:
            raise self._wrong(f"gives the tensor {name!r} {n_dims} dimensions; 4 is the most")
        layout = _SHAPES[n_dims]
        start = self._take(layout.size)
        *shape, kind, offset = layout.unpack_from(self._window, start)
        if kind not in TENSOR_TYPES:
            raise self._wrong(f"stores the tensor {name!r} in the unknown type {kind}; a newer version may know it")
        if prod(max(length, 1) for length in shape) >= 1 << 63:
            raise self._wrong(f"gives the tensor {name!r} the impossible shape {shape}")
        if (shape[0] if shape else 1) % TENSOR_TYPES[kind].block_size:
            raise self._wrong(f"gives the tensor {name!r} rows that are no multiple of its blocks")
        return Tensor(name, tuple(shape), kind, offset)

    def _value(self, key: str, kind: int) -> Value:
        if kind == STRING:
            return self._text(_LONGEST_TEXT)
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind != ARRAY:
            raise self._wrong(f"gives the key {key[:100]!r} the unknown type {kind}")
        kind, count = self._number(_U32), self._number(_U64)
        if kind == STRING:
            return self._string_array(key, count)
        if kind not in _SCALARS:
            raise self._wrong(f"gives the array {key[:100]!r} the unknown type {kind}")
        element = _SCALARS[kind]
        end = self.position + count * element.size
        if end > self._size:
            raise self._cut()
        if count <= _LONGEST_LIST:
            return [self._scalar(element) for _ in range(count)]
        start, self.position = self.position, end
        return Array(kind, count, start, end)

    def _string_array(self, key: str, count: int) -> Value:
        if count > _MOST_STRINGS or count * 8 > self._size - self.position:
            raise self._wrong(f"claims {count} strings in {key[:100]!r}, more than it can hold")
        if count <= _LONGEST_LIST and not key.startswith("tokenizer.ggml."):
            return [self._text(_LONGEST_TEXT) for _ in range(count)]
        start, left, wanted = self.position, count, _WINDOW
        while left:
            window = self._fill(min(wanted, self._size - self.position))
            length, stepped = step_over(window, 0, left)
            self.position += length
            left -= stepped
            # A string longer than the window is stepped over by its length alone.
            if not stepped:
                self._skip_string()
                left -= 1
        return Array(STRING, count, start, self.position)

    def _skip_string(self) -> None:
        length = self._number(_U64)
        if length > self._size - self.position:
            raise self._cut()
        self.position += length

    def _text(self, longest: int) -> str:
        length = self._number(_U64)
        if length > self._size - self.position:
            raise self._cut()
        if length > longest:
            raise self._wrong(f"has a text of {length} bytes in its header; {longest} is the most")
        start = self._take(length)
        return self._window[start : start + length].decode("utf-8", errors="replace")

    def _number(self, shape: Struct) -> int:
        start = self._take(shape.size)
        value: int = shape.unpack_from(self._window, start)[0]
        return value

    def _scalar(self, shape: Struct) -> Scalar:
        start = self._take(shape.size)
        value: Scalar = shape.unpack_from(self._window, start)[0]
        return value

    def _take(self, length: int) -> int:
        """Step over ``length`` bytes; returns where in the window they are."""
        start = self.position - self._base
        if start + length > len(self._window):
            self._fill(length)
            start = 0
        self.position += length
        return start

    def _fill(self, least: int) -> bytes:
        """Make the window begin at ``position`` and hold at least ``least`` bytes; returns it."""
        if least > self._size - self.position:
            raise self._cut()
        self._file.seek(self.position)
        self._window, self._base = self._file.read(max(least, _WINDOW)), self.position
        if len(self._window) < least:
            raise self._cut()
        return self._window

    def _cut(self) -> InvalidModelFile:
        return self._wrong(f"is cut short: it ends inside its header, after {self._size} bytes; fetch it again")

    def _wrong(self, reason: str) -> InvalidModelFile:
        return InvalidModelFile(self._path, reason)
