"""One file, from our checks to a few tokens, in a process of its own with bounds on memory and time."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from shimmy.errors import InsufficientMemory, InvalidModelFile, ShimmyError
from shimmy.models.check import check_model_file
from shimmy.models.metadata import ModelMetadata
from shimmy.native.chat import ChatTemplate
from shimmy.native.context import Context, Run
from shimmy.native.embedder import Embedder, EmbedRun
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import ContextParams, ModelParams, SamplingParams

CHECKED, REFUSED, MEMORY, RAN, CRASHED, HUNG, BUG = (
    "refused by our check",
    "refused by llama.cpp",
    "wants too much memory",
    "loaded and ran",
    "CRASHED",
    "HUNG",
    "OTHER EXCEPTION",
)
FINDINGS = (CRASHED, HUNG, BUG)
_CODES = {CHECKED: 10, REFUSED: 11, MEMORY: 12, RAN: 13, BUG: 14}
_SETTINGS = ContextParams(n_threads=1, n_threads_batch=1, n_batch=64, n_ubatch=64)
_TEXT = "the cat sat on the mat <|im_end|> \u00e4\u4f60 "


class Outcome(NamedTuple):
    """What became of a file: the class, the stage that was reached, and what was said (of a crash, by llama.cpp)."""

    kind: str
    stage: str
    said: str


def try_file(path: Path, *, timeout_s: float, memory: int) -> Outcome:
    """The outcome for ``path``. The process forks: it must have no threads but its own."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            _run_child(path, said.fileno(), memory, timeout_s)
        status = _wait(child, timeout_s)
        said.seek(max(0, said.seek(0, os.SEEK_END) - 20_000))
        lines = said.read().decode(errors="replace").splitlines()
    stages = [line.removeprefix("@ ") for line in lines if line.startswith("@ ")]
    stage = stages[-1] if stages else "start"
    if status is None:
        return Outcome(HUNG, stage, "")
    code = os.waitstatus_to_exitcode(status)
    kind = next((kind for kind, own in _CODES.items() if own == code), CRASHED)
    return Outcome(kind, stage, _reason(lines, code if kind == CRASHED else None))


def load_complaint(path: Path) -> str | None:
    """What llama.cpp says against the file at ``path``; None where it loads it, and "" where it ends the process."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                Model(path, ModelParams(n_gpu_layers=0))
                code = 0
            except ShimmyError as error:
                os.write(2, b"\n@@" + error.message.encode())
            finally:
                os._exit(code)
        status = _wait(child, 20.0)
        said.seek(0)
        _, found, complaint = said.read().decode(errors="replace").partition("@@")
    return None if status == 0 else complaint if found else ""


def _reason(lines: list[str], code: int | None) -> str:
    """The last thing that was said before the end."""
    asserted = [
        line for line in lines if "GGML_ASSERT" in line or "GGML_ABORT" in line or ".cpp:" in line or ".c:" in line
    ]
    plain = [line for line in lines if line and not line.startswith("@ ")]
    last = (asserted or plain or [""])[-1 if not asserted else 0]
    name = f"{signal.Signals(-code).name}: " if code is not None and code < 0 else ""
    return (name + last.strip())[:200]


def _wait(child: int, timeout_s: float) -> int | None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _run_child(path: Path, said: int, memory: int, timeout_s: float) -> None:
    """Never returns."""
    code = _CODES[BUG]
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (int(timeout_s) + 1, int(timeout_s) + 1))
        code = _CODES[_classify(path)]
    finally:
        os._exit(code)


def _classify(path: Path) -> str:
    try:
        _stage("check")
        metadata = check_model_file(path)
    except InvalidModelFile as error:
        _stage(f"check: {error.facts['reason']}")
        return CHECKED
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        _stage(f"check: {type(error).__name__} {error}")
        return BUG
    return _use_and_classify(path, metadata)


def _use_and_classify(path: Path, metadata: ModelMetadata) -> str:
    try:
        _use(path, metadata)
    except (InsufficientMemory, MemoryError):
        return MEMORY
    except ShimmyError as error:
        os.write(2, f"\n{error.message.splitlines()[0][:300] if error.message else ''}\n".encode())
        return REFUSED
    except Exception as error:  # noqa: BLE001 - as above
        _stage(f"{type(error).__name__} {error}")
        return BUG
    return RAN


def _use(path: Path, metadata: ModelMetadata) -> None:
    """Loads the model and makes a few tokens or a vector with it, as a worker does."""
    _stage("load")
    model = Model(path, ModelParams(n_gpu_layers=0))
    facts = model.facts
    _stage("tokenize")
    tokens = (model.tokenize(_TEXT) or [0])[:40]
    model.detokenize(tokens, special=True)
    if facts.has_encoder or not facts.has_decoder or "embedding" in metadata.capabilities:
        _stage("embedder")
        embedder = Embedder(model, _SETTINGS, n_ctx=64, n_batch=64, n_seq_max=1)
        _stage("embed")
        embedder.step([EmbedRun(0, tokens)])
        return
    _stage("template")
    if facts.has_chat_template:
        ChatTemplate(model)
    _stage("context")
    context = Context(model, _SETTINGS, n_ctx=64, n_seq_max=1)
    sampler = Sampler(model, SamplingParams(seed=1), tokens, n_ctx=64)
    _stage("prefill")
    token = context.step([Run(0, 0, tokens, sampler)]).drawn()[0].token
    _stage("decode")
    for step in range(3):
        token = context.step([Run(0, len(tokens) + step, [max(0, token)], sampler)]).drawn()[0].token


def _stage(name: str) -> None:
    os.write(2, f"\n@ {name}\n".encode(errors="backslashreplace"))
