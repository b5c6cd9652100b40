"""The shared library: finding it, opening it, and turning its status codes into errors.

``_abi`` is made from native/shimmy.h when the library is built (native/emit_abi.py): parsing the header at start would cost 0.2 s.
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from shimmy import native
from shimmy.errors import (
    Cancelled,
    GenerationFailed,
    InsufficientMemory,
    InvalidRequest,
    KvCacheFull,
    ModelFailed,
    NativeLibraryError,
    ShimmyError,
    TemplateFailed,
)

ABI_VERSION = 6
LOG_NOTHING = 5
LOG_INFO = 2

_NAMES = {"darwin": "libshimmy.dylib", "win32": "shimmy.dll"}
_ERRORS: dict[int, type[ShimmyError]] = {
    1: InvalidRequest,
    2: ModelFailed,
    3: InsufficientMemory,
    4: KvCacheFull,
    5: Cancelled,
    6: GenerationFailed,
    7: TemplateFailed,
}

try:
    _abi = import_module("shimmy.native._abi")  # not in the tree: the build puts it beside the library
except ImportError as error:
    raise NativeLibraryError("shimmy was not built: run 'pip install .' or scripts/shimmy") from error

ffi: Any = _abi.ffi  # its structs have the fields of native/shimmy.h, which no type checker knows


def library_path() -> Path:
    """Where the shared library lies; raises NativeLibraryError when it is nowhere.

    An editable install keeps it apart from the Python files, so the package has more than one folder.
    """
    name = _NAMES.get(sys.platform, "libshimmy.so")
    for folder in native.__path__:
        if (path := Path(folder) / name).is_file():
            return path
    raise NativeLibraryError(f"{name} is missing: build it with 'pip install .' or scripts/shimmy")


@functools.cache
def library() -> Any:
    """The opened library, its back ends started and its log silent; raises NativeLibraryError."""
    path = library_path()
    try:
        lib = ffi.dlopen(str(path))
    except OSError as error:
        raise NativeLibraryError(f"{path} cannot be opened: {error}") from error
    found = lib.shimmy_abi_version()
    if found != ABI_VERSION:
        raise NativeLibraryError(f"{path} has ABI version {found}, not {ABI_VERSION}: build it again")
    _raise_unless_ok(lib, lib.shimmy_start(-1, LOG_NOTHING))
    return lib


def log_to(fd: int, min_level: int) -> None:
    """Send llama.cpp's log to a file descriptor from a ggml level on (1 debug .. 4 error, LOG_NOTHING)."""
    check(library().shimmy_start(fd, min_level))


def check(status: int) -> None:
    """Raise the error that a status code stands for, with the library's message."""
    if status:
        _raise_unless_ok(library(), status)


def _raise_unless_ok(lib: Any, status: int) -> None:
    if status:
        message = ffi.string(lib.shimmy_last_error()).decode("utf-8", "replace")
        error = _ERRORS.get(status, ShimmyError)
        if issubclass(error, InvalidRequest):
            raise error(message, param=ffi.string(lib.shimmy_last_error_param()).decode() or None)
        raise error(message)


def assign_fields(struct: Any, **values: Any) -> None:
    """Set fields of a C struct; raises InvalidRequest naming the field whose value does not fit its C type."""
    for name, value in values.items():
        try:
            setattr(struct, name, value)
        except OverflowError as error:
            raise InvalidRequest(f"{name} is out of range", param=name) from error


def take_string(out: Any) -> bytes:
    """The bytes of a ``char **`` that the library filled, which is freed."""
    try:
        return bytes(ffi.string(out[0]))
    finally:
        library().shimmy_string_free(out[0])


def build_facts() -> bytes:
    """Back end, llama.cpp version and devices, as JSON."""
    out = ffi.new("char **")
    check(library().shimmy_build_facts(out))
    return take_string(out)


def end_with_parent() -> None:
    """On Linux, let the kernel kill this process when the thread that started it ends."""
    library().shimmy_end_with_parent()
