"""What is said of a worker that ended."""

from __future__ import annotations

import signal

# What is on stderr when an allocation failed: C++'s, ggml's, and the assertion behind ggml's.
_NO_MEMORY = ("std::bad_alloc", "MemoryError", "insufficient memory", "mem_buffer != NULL")


def death_message(code: int | None, stderr: str) -> str:
    """One line on why a worker ended, from its exit code and what it said last."""
    said = [line.strip() for line in stderr.splitlines() if line.strip()]
    abort = next((line for line in reversed(said) if "GGML_ASSERT" in line or "GGML_ABORT" in line), "")
    # Where llama.cpp was built means nothing to anybody: only the file's name.
    last = abort.rsplit("/", 1)[-1] if abort.startswith("/") else abort or (said[-1] if said else "")
    if any(sign in line for line in said for sign in _NO_MEMORY):
        return f"the memory did not suffice ({last}): use a smaller model or a smaller --ctx"
    if code is None or code >= 0:
        return f"the model's process ended{f' with code {code}' if code else ''}{f': {last}' if last else ''}"
    by_signal: dict[int, str] = {
        signal.SIGABRT: f"llama.cpp gave up on this model: {last or 'no reason given'}; the file may be damaged",
        signal.SIGBUS: "the model file was cut short while it was in use: put it back and load it again",
        signal.SIGKILL: "the model's process was killed, probably for lack of memory: use a smaller model or a smaller --ctx",
        signal.SIGSEGV: "llama.cpp crashed on this model or this request: try another file or text",
    }
    return by_signal.get(-code, f"the model's process ended by signal {-code}{f': {last}' if last else ''}")
