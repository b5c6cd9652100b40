"""A registry with tools that a test writes, and calls of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from shimmy.config import Config, load_config
from shimmy.tools.registry import ToolRegistry, ToolResult

_T = TypeVar("_T")

BAD = '''
"""Tools that do everything wrong."""
import itertools, os, sys, threading, time, re, subprocess
import msgspec
from dataclasses import dataclass
from typing import Any


def hang() -> None:
    """Sleep for ever."""
    time.sleep(1e6)


def spin() -> bool:
    """Spin in C, without giving the interpreter back."""
    return re.match(r"(a+)+$", "a" * 64 + "b") is None


def grow() -> int:
    """Ask for more memory than there is."""
    return len(b"x" * (1 << 40))


def recurse() -> None:
    """Call itself."""
    recurse()


def fail(message: str) -> None:
    """Raise."""
    raise RuntimeError(message)


def rude() -> None:
    """Raise what cannot be shown."""

    class Rude(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    raise Rude


def leave() -> None:
    """Call sys.exit."""
    sys.exit(3)


def drop_dead() -> None:
    """End the process."""
    os._exit(7)


def crash() -> None:
    """Be killed by the kernel."""
    os.kill(os.getpid(), 11)


def chatter() -> str:
    """Print."""
    print("out " * 1000)
    print("err " * 1000, file=sys.stderr)
    os.write(1, b"raw")
    return "said"


def read_stdin() -> str:
    """Read what it is not given."""
    return sys.stdin.read()


def flood(n: int) -> str:
    """Return so many characters."""
    return "x" * n


def returns(kind: str) -> Any:
    """Return what is no JSON."""
    loop: list[Any] = []
    loop.append(loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    shallow: list[Any] = []
    for _ in range(200):
        shallow = [shallow]
    return {
        "nan": [float("nan")], "infinity": float("inf"), "bytes": {"a": b"x"}, "cycle": loop, "deep": deep, "nested": shallow,
        "surrogate": "\\ud800", "object": object(), "set": {1}, "digits": 10**5000, "generator": (i for i in range(3)),
    }[kind]


@dataclass
class Point:
    x: int
    y: list[int]


def point() -> Any:
    """Return a dataclass."""
    return [Point(1, [2])]


def thread() -> int:
    """Leave a thread behind."""
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
    return os.getpid()


def fork() -> str:
    """Go on twice."""
    return "first" if os.fork() else "second"


def child(path: str) -> None:
    """Leave a process behind, and hang."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1e6)"])
    with open(path, "w") as file:
        file.write(str(process.pid))
    time.sleep(1e6)


def pid() -> int:
    """Tell the process."""
    return os.getpid()


async def slowly(word: str) -> str:
    """Be asynchronous."""
    import asyncio

    await asyncio.sleep(0)
    return word


class Item(msgspec.Struct):
    name: str
    count: int = 1


def typed(item: Item, numbers: list[int], mode: str = "a", extra: dict[str, float] | None = None) -> str:
    """Take much.

    Args:
        item: What there is,
            and how much of it.
        numbers (list): Some.
    """
    return f"{item.name} {item.count} {sum(numbers)} {mode} {extra}"


def block(path: str) -> None:
    """Wait until a file is there."""
    open(path + ".begun", "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)


TOOLS = [value for value in list(globals().values()) if getattr(value, "__module__", None) == __name__ and not isinstance(value, type)]
'''


def config_of(**settings: object) -> Config:
    """A configuration by the names of SHIMMY_* variables."""
    environ = {f"SHIMMY_{name.upper()}": str(value) for name, value in settings.items()}
    return load_config({}, {"HOME": os.devnull, "SHIMMY_CONFIG": os.devnull, **environ})


def write_bad(folder: Path) -> Path:
    """A file of tools that do everything wrong."""
    path = folder / "bad.py"
    path.write_text(BAD, encoding="utf-8")
    return path


def with_registry(config: Config, work: Callable[[ToolRegistry], Awaitable[_T]]) -> _T:
    """What ``work`` makes of a registry, in a loop of its own; afterwards nothing of it is left."""

    async def live() -> _T:
        registry = ToolRegistry(config)
        try:
            return await work(registry)
        finally:
            await registry.close()

    return asyncio.run(live())


def call(config: Config, name: str, arguments: Mapping[str, Any] | bytes | str | None = None) -> ToolResult:
    """One call in a registry of its own."""
    return with_registry(config, lambda registry: registry.execute(name, {} if arguments is None else arguments))
