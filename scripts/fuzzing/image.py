"""A GGUF file taken apart, so that any part of it can be changed and the rest still fits together."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shimmy.models.gguf_file import read_header
from shimmy.models.quantization import TENSOR_TYPES

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass
class Value:
    """A value and its GGUF type; of an array ``kind`` is that of the elements and ``value`` a list."""

    kind: int
    value: Any
    is_array: bool = False


@dataclass
class Tensor:
    """A tensor; ``data`` None: zeros, of the size that shape and type make. ``offset`` None: behind the one before."""

    name: bytes
    shape: list[int]
    kind: int
    data: bytes | None = None
    offset: int | None = None

    @property
    def n_bytes(self) -> int:
        """As shape and type make it; never absurd."""
        kind = TENSOR_TYPES.get(self.kind)
        n = 1
        for length in self.shape:
            n *= length
        return min(max(n // kind.block_size * kind.type_size, 0), 1 << 34) if kind else 0


@dataclass
class Image:
    """A whole file."""

    values: list[tuple[bytes, Value]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """The file, whatever its parts are; holes where tensors are zeros."""
        head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.values)))
        for key, value in self.values:
            head += _text(key) + _packed(value)
        offset, offsets = 0, []
        for tensor in self.tensors:
            offsets.append(offset if tensor.offset is None else tensor.offset)
            head += _text(tensor.name) + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            head += struct.pack("<IQ", tensor.kind, offsets[-1] % 2**64)
            offset += -(-tensor.n_bytes // 32) * 32
        start = -(-len(head) // 32) * 32
        with path.open("wb") as file:
            file.write(head)
            place = start
            for tensor in self.tensors:
                if tensor.data is not None:
                    file.seek(place)
                    file.write(tensor.data[: tensor.n_bytes])
                place += -(-tensor.n_bytes // 32) * 32
            file.truncate(max(place, start))


def read_image(path: Path, *, with_data: bool = True) -> Image:
    """The parts of a sound file; without its data where it is large."""
    data, image = path.read_bytes(), Image()
    n_tensors, n_values = struct.unpack_from("<QQ", data, 8)
    at = 24
    for _ in range(n_values):
        key, at = _read_text(data, at)
        value, at = _read_value(data, at)
        image.values.append((key, value))
    start = read_header(path).data_start
    for _ in range(n_tensors):
        name, at = _read_text(data, at)
        (n_dims,) = struct.unpack_from("<I", data, at)
        shape = list(struct.unpack_from(f"<{n_dims}Q", data, at + 4))
        kind, offset = struct.unpack_from("<IQ", data, at + 4 + 8 * n_dims)
        at += 16 + 8 * n_dims
        tensor = Tensor(name, shape, kind)
        if with_data:
            tensor.data = data[start + offset : start + offset + tensor.n_bytes]
        image.tensors.append(tensor)
    return image


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _packed(value: Value) -> bytes:
    if not value.is_array:
        return struct.pack("<I", value.kind) + _element(value.kind, value.value)
    head = struct.pack("<IIQ", ARRAY, value.kind, len(value.value))
    return head + b"".join(_element(value.kind, element) for element in value.value)


def _element(kind: int, value: Any) -> bytes:
    return _text(value) if kind == STRING else struct.pack("<" + SCALARS[kind], value)


def _read_text(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length], at + 8 + length


def _read_value(data: bytes, at: int) -> tuple[Value, int]:
    (kind,) = struct.unpack_from("<I", data, at)
    if kind != ARRAY:
        value, at = _read_element(data, at + 4, kind)
        return Value(kind, value), at
    kind, count = struct.unpack_from("<IQ", data, at + 4)
    at, values = at + 16, []
    for _ in range(count):
        value, at = _read_element(data, at, kind)
        values.append(value)
    return Value(kind, values, is_array=True), at


def _read_element(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == STRING:
        return _read_text(data, at)
    code = "<" + SCALARS[kind]
    return struct.unpack_from(code, data, at)[0], at + struct.calcsize(code)
