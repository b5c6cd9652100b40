"""llama.cpp's own sampler chain (native/tests/chain.h): what our sampler is compared with, and measured against."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cffi import FFI
from numpy.typing import NDArray

from shimmy.types import SAMPLERS, SamplingParams

ROOT = Path(__file__).resolve().parents[2]
_NAME = "libshimmy_chain.dylib" if sys.platform == "darwin" else "libshimmy_chain.so"
_BUILD = ROOT / "build" / "Release"

ffi: Any = FFI()


def build() -> Path | None:
    """Builds the library out of the folder in which shimmy was built, and finds it; None where there is no such folder."""
    if (_BUILD / "CMakeCache.txt").is_file():
        search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        command = [shutil.which("cmake", path=search) or "cmake", "--build", str(_BUILD), "--target", "shimmy_chain"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next((ROOT / "build").glob(f"*/{_NAME}"), None)


@functools.cache
def library() -> Any:
    """The opened library, None where it cannot be built."""
    path = build()
    if path is None:
        return None
    header = (ROOT / "native" / "tests" / "chain.h").read_text(encoding="utf-8")
    body = header.partition("/* cdef begin */")[2].partition("/* cdef end */")[0]
    ffi.cdef(body.replace("CHAIN_API ", ""))
    return ffi.dlopen(str(path))


class ChainModel:
    """A model's vocabulary, loaded by the chain's llama.cpp. A test that makes one is skipped where that cannot be built."""

    def __init__(self, path: Path) -> None:
        if library() is None:
            pytest.skip("needs the folder in which shimmy was built")
        self.handle = library().chain_model(str(path).encode())
        assert self.handle != ffi.NULL

    def close(self) -> None:
        library().chain_model_free(self.handle)


class Chain:
    """One chain, made as llama-server makes it of the same settings."""

    def __init__(
        self, model: ChainModel, params: SamplingParams, history: Sequence[int] = (), n_ctx: int = 1024
    ) -> None:
        breakers = [ffi.new("char[]", text.encode()) for text in params.dry_sequence_breakers]
        names = [
            ffi.new("char[]", name.encode()) for name in (SAMPLERS if params.samplers is None else params.samplers)
        ]
        breaker_array, name_array = ffi.new("char *[]", breakers), ffi.new("char *[]", names)
        tokens = ffi.new("int32_t[]", list(params.logit_bias))
        values = ffi.new("float[]", list(params.logit_bias.values()))
        raw = ffi.new("chain_params *")
        same = {name for name, _ in ffi.typeof("chain_params").fields} & set(SamplingParams.__struct_fields__)
        for name in same - {"samplers", "seed"}:
            setattr(raw, name, getattr(params, name))
        raw.repeat_last_n = n_ctx if params.repeat_last_n < 0 else params.repeat_last_n
        raw.dry_penalty_last_n = n_ctx if params.dry_penalty_last_n < 0 else params.dry_penalty_last_n
        raw.seed = params.seed or 0
        raw.breakers, raw.n_breakers = breaker_array, len(breakers)
        raw.samplers, raw.n_samplers = name_array, len(names)
        raw.bias_tokens, raw.bias_values, raw.n_bias = tokens, values, len(params.logit_bias)
        self.handle = library().chain_new(model.handle, raw)
        for token in history:
            self.accept(token)

    def accept(self, token: int) -> None:
        library().chain_accept(self.handle, token)

    def close(self) -> None:
        library().chain_free(self.handle)

    def apply(self, row: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32], int]:
        """The survivors in the chain's order, their logits, and the drawn token. Those of logit -inf are left out."""
        n = len(row)
        tokens, logits = np.empty(n, np.int32), np.empty(n, np.float32)
        selected = ffi.new("int32_t *")
        count = library().chain_apply(
            self.handle,
            ffi.from_buffer("float[]", array("f", row.tobytes())),
            n,
            ffi.from_buffer("int32_t[]", tokens, require_writable=True),
            ffi.from_buffer("float[]", logits, require_writable=True),
            selected,
        )
        drawn = int(tokens[selected[0]])
        tokens, logits = tokens[:count], logits[:count]
        return tokens[logits > -np.inf], logits[logits > -np.inf], drawn
