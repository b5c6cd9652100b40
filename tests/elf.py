"""A reader for the dynamic symbols of an ELF library: enough of the format for one question, and no binutils."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SHT_DYNSYM = 11
_SHN_UNDEF = 0
_STB_LOCAL = 0


class Section(NamedTuple):
    """The fields of an Elf64_Shdr that count here."""

    kind: int
    offset: int
    size: int
    link: int


def is_elf64(path: Path) -> bool:
    """Whether ``path`` is a 64-bit little-endian ELF file, which is what this module reads."""
    with path.open("rb") as file:
        return file.read(6) == b"\x7fELF\x02\x01"


def _sections(data: bytes) -> list[Section]:
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = []
    for number in range(count):
        _, kind, _, _, offset, length, link = struct.unpack_from("<IIQQQQI", data, start + number * size)
        sections.append(Section(kind, offset, length, link))
    return sections


def exported_symbols(path: Path) -> Iterator[str]:
    """The names of all symbols that ``path`` defines for others."""
    data = path.read_bytes()
    sections = _sections(data)
    for table in (section for section in sections if section.kind == _SHT_DYNSYM):
        names = sections[table.link].offset
        for at in range(table.offset, table.offset + table.size, 24):
            name, info, _, index = struct.unpack_from("<IBBH", data, at)
            if index != _SHN_UNDEF and info >> 4 != _STB_LOCAL:
                yield data[names + name : data.index(b"\0", names + name)].decode()
