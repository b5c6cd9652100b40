"""What the shared library shows to the process that loads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shimmy.native.ffi import library_path
from tests.elf import exported_symbols, is_elf64

HEADER = Path(__file__).resolve().parent.parent / "native" / "shimmy.h"


@pytest.fixture(name="exported", scope="module")
def exported_fixture() -> set[str]:
    library = library_path()
    if not is_elf64(library):
        pytest.skip("the library is no 64-bit ELF file")
    return set(exported_symbols(library))


def test_only_our_functions_leave_the_library(exported: set[str]) -> None:
    assert {name for name in exported if not name.startswith("shimmy_")} == set()


def test_every_function_of_the_header_is_exported(exported: set[str]) -> None:
    declared = set(re.findall(r"SHIMMY_API\b[^;(]*?\b(shimmy_\w+)\(", HEADER.read_text(encoding="utf-8")))
    assert declared
    assert exported == declared
