"""What `shimmy serve` says once it listens: models, a line to try, devices, and GPUs that are left unused."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from shimmy.commands.placement import device_in_words, placement, placement_in_words, warnings
from shimmy.config import Config, child_environ
from shimmy.types import ModelInfo

log = logging.getLogger("shimmy.serve")

_SHOWN_MODELS = 5
_SURVEY_S = 30.0


class Banner:
    """Lines on stderr; in a log of JSON they are entries of it."""

    def __init__(self, config: Config, url: str, *, keys: bool) -> None:
        self._config = config
        self._url = url
        self._keys = keys

    def show_models(self, models: Sequence[ModelInfo]) -> None:
        """Which models there are, and how to ask one."""
        if not models:
            self._say("models: none yet; 'shimmy pull' fetches one")
            return
        names = ", ".join(model.id for model in models[:_SHOWN_MODELS])
        more = f" and {len(models) - _SHOWN_MODELS} more ('shimmy list')" if len(models) > _SHOWN_MODELS else ""
        self._say(f"models: {names}{more}")
        self._say(f"try: {self.command()}")
        self._say(f"all routes: {self._url}/docs")

    def command(self) -> str:
        """A line for a shell that gets an answer."""
        body = json.dumps({"model": "default", "messages": [{"role": "user", "content": "Hello"}]})
        key = ' -H "Authorization: Bearer $SHIMMY_API_KEY"' if self._keys else ""
        return f"curl {self._url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"

    async def show_devices(self) -> None:
        """What models run on, from a process of its own: this one never loads llama.cpp."""
        found = await _survey()
        if not found["ok"]:
            self._warn(found["error"])
            return
        devices = "; ".join(device_in_words(device) for device in found["devices"])
        self._say(f"devices: {devices}; {placement_in_words(placement(self._config, found))}")
        for warning in warnings(self._config, found):
            self._warn(warning)

    def _say(self, line: str) -> None:
        self._write(logging.INFO, line)

    def _warn(self, line: str) -> None:
        self._write(logging.WARNING, line if self._config.log_format == "json" else f"WARNING: {line}")

    def _write(self, level: int, line: str) -> None:
        if self._config.log_format == "json":
            log.log(level, "%s", line)
            return
        with suppress(OSError):  # a closed stderr is no reason not to serve
            print(line, file=sys.stderr, flush=True)


async def _survey() -> dict[str, Any]:
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "shimmy.native.survey"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=child_environ(),
        )
    except OSError as error:
        return {"ok": False, "error": f"the devices cannot be looked at: {error.strerror}"}
    try:
        out, _ = await asyncio.wait_for(process.communicate(), _SURVEY_S)
        found: dict[str, Any] = json.loads(out)
    except (TimeoutError, ValueError):
        return {"ok": False, "error": "the devices cannot be looked at: 'shimmy diag' may say why"}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return found
