"""Write the Python module that cffi opens the library with: ``emit_abi.py HEADER OUTPUT.py``.

The header's part between the two cdef marks is C that cffi can read once SHIMMY_API is gone. The module it makes is plain
Python, the same for every version and platform.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cffi import FFI


def declarations(header: str) -> str:
    """The C declarations between the cdef marks."""
    return header.split("/* cdef begin */")[1].split("/* cdef end */", maxsplit=1)[0].replace("SHIMMY_API ", "")


def main() -> None:
    """Read the header, write the module."""
    header, output = (Path(argument) for argument in sys.argv[1:])
    ffi = FFI()
    ffi.cdef(declarations(header.read_text(encoding="utf-8")))
    ffi.set_source("shimmy.native._abi", None)
    ffi.emit_python_code(str(output))


if __name__ == "__main__":
    main()
