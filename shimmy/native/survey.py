"""The native library's build, the devices that ggml lists, and the GPUs that are here and not among them.

``python -m shimmy.native.survey`` prints it as JSON, for a process that must not load llama.cpp itself.
"""

from __future__ import annotations

import json
import os
from typing import Any

import msgspec

from shimmy.errors import NativeLibraryError
from shimmy.native.hardware import unused_because

_NICE = 10  # a server asks when its first model is there, and is probably being asked something itself


def survey() -> dict[str, Any]:
    """``ok``, the library's facts and ``unused``, lines on GPUs; where the library cannot be used ``ok`` is false, and ``error`` why."""
    try:
        from shimmy.native import ffi

        facts: dict[str, Any] = msgspec.json.decode(ffi.build_facts())
        found = {"ok": True, "library": str(ffi.library_path()), **facts}
    except NativeLibraryError as error:
        return {"ok": False, "error": error.message}
    return {**found, "unused": unused_because(found["backend"], [gpu["description"] for gpu in gpus_of(found)])}


def gpus_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The GPUs among the devices of a survey."""
    return [device for device in found.get("devices", []) if device["type"] in {"gpu", "igpu"}]


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(_NICE)
    print(json.dumps(survey()))
