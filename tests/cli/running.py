"""The command line in a process of its own, with nothing of this machine's configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shimmy.config import child_environ

TIMEOUT_S = 300.0  # a test that runs into it has found a hang
COMMAND = [sys.executable, "-P", "-m", "shimmy.cli"]
# Where other tools would keep models outside of the home.
_OTHERS = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LLAMA_CACHE", "XDG_CACHE_HOME")
Argument = str | bytes | Path


class Done(NamedTuple):
    """What a finished process said."""

    code: int
    out: str
    err: str


class Shimmy:
    """Runs the command line in ``folder``; the store, the caches and the home are in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.environ = child_environ(
            HOME=str(folder),
            SHIMMY_CONFIG=os.devnull,
            SHIMMY_STORE=str(self.store),
            SHIMMY_DATA=str(folder / "data"),
            SHIMMY_CACHE=str(folder / "cache"),
            OLLAMA_MODELS=str(folder / "ollama"),
            PYTHONIOENCODING="utf-8",
        )
        for name in ("SHIMMY_BASE_GGUF", "SHIMMY_MODEL_PATHS", "SHIMMY_CTX", "SHIMMY_VERBOSE", *_OTHERS):
            self.environ.pop(name, None)

    def __call__(
        self,
        *args: Argument,
        stdin: bytes = b"",
        environ: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> Done:
        """Run to the end; ``before`` runs in the new process."""
        done = subprocess.run(
            [*COMMAND, *args],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
            timeout=TIMEOUT_S,
            preexec_fn=before,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *args: Argument, **popen: Any) -> subprocess.Popen[bytes]:
        """Start and give the process back."""
        return subprocess.Popen([*COMMAND, *args], cwd=self.folder, env=self.environ, **popen)

    def files(self) -> set[str]:
        """All files below the folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir()}


def said(done: Done, code: int) -> str:
    """The one line on stderr of a run that failed as it should, without its beginning."""
    assert done.code == code, done
    assert not done.out, done
    assert done.err.startswith("shimmy: "), done
    assert done.err.endswith("\n"), done
    assert done.err.count("\n") == 1, done
    assert "Traceback" not in done.err, done
    return done.err.removeprefix("shimmy: ").removesuffix("\n")
