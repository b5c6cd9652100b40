"""Model files with one thing changed, for what llama.cpp does with them."""

from __future__ import annotations

import struct
from pathlib import Path

from shimmy.models.gguf_file import Array, read_array, read_header


def with_number(source: Path, target: Path, key: str, value: int) -> Path:
    """A copy in which the 32-bit number at ``key`` is ``value``."""
    data = bytearray(source.read_bytes())
    at = data.index(_text(key)) + len(_text(key)) + 4  # behind the value's type
    data[at : at + 4] = struct.pack("<I", value)
    target.write_bytes(data)
    return target


def with_text(source: Path, target: Path, key: str, value: str) -> Path:
    """A copy in which the text at ``key`` is ``value``, of the same length."""
    data = bytearray(source.read_bytes())
    at = data.index(_text(key)) + len(_text(key)) + 4
    (length,) = struct.unpack_from("<Q", data, at)
    assert length == len(value)
    data[at + 8 : at + 8 + length] = value.encode()
    target.write_bytes(data)
    return target


def with_a_token_twice(source: Path, target: Path) -> Path:
    """A copy in which two tokens of the vocabulary are the same."""
    tokens = read_header(source).values["tokenizer.ggml.tokens"]
    assert isinstance(tokens, Array)
    listed = read_array(source, tokens)
    data = source.read_bytes()
    start = data.index(listed)
    # The first two letters of byte-level BPE, "!" and '"', are one byte each.
    assert listed.startswith(_text("!") + _text('"'))
    target.write_bytes(data[:start] + _text("!") * 2 + data[start + 2 * len(_text("!")) :])
    return target


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()
