"""Where tools are found: in this package, in other installed packages, and in files that the configuration names."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NewType, get_origin

import shimmy.tools.builtin
from shimmy.tools.frames import Place
from shimmy.tools.tool import BadTool, Tool, tools_of

GROUP = "shimmy.tools"
_LIST = "TOOLS"
_MARK = f"[{GROUP}]".encode()


def builtin_places() -> list[Place]:
    """The files of shimmy/tools/builtin."""
    return [Place("builtin", info.name) for info in pkgutil.iter_modules(shimmy.tools.builtin.__path__)]


def file_places(files: Iterable[Path]) -> list[Place]:
    """Those of the configuration, each once."""
    return [Place("file", str(path)) for path in dict.fromkeys(files)]


def package_places() -> list[Place]:
    """The entry points of installed packages."""
    if not _some_offer():
        return []
    from importlib.metadata import entry_points  # a tenth of what a start takes, and few packages offer tools

    return [Place("package", f"{point.name} = {point.value}") for point in entry_points(group=GROUP)]


def load(place: Place) -> list[Tool]:
    """The tools of a place, imported. Raises BadTool, and whatever importing them raises."""
    if place.kind == "builtin":
        return tools_of(_functions(import_module(f"shimmy.tools.builtin.{place.where}")))
    found = _import_file(Path(place.where)) if place.kind == "file" else _load_point(place.where)
    functions = _functions(found) if isinstance(found, ModuleType) else [found]
    if not functions:
        raise BadTool("it has no public function")
    return tools_of(functions)


def _functions(module: ModuleType) -> list[Callable[..., Any]]:
    """Those that its TOOLS names; without it, its own public ones."""
    if hasattr(module, _LIST):
        return list(getattr(module, _LIST))
    return [
        value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and not _is_type(value)
        if getattr(value, "__module__", None) == module.__name__
    ]


def _is_type(value: object) -> bool:
    """Names of types are callable too: classes, ``Annotated[...]`` and ``NewType``."""
    return isinstance(value, type | NewType) or get_origin(value) is not None


def _import_file(path: Path) -> ModuleType:
    name = f"shimmy_tool_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadTool("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and annotations look
    spec.loader.exec_module(module)
    return module


def _load_point(point: str) -> Any:
    from importlib.metadata import EntryPoint

    name, _, value = point.partition(" = ")
    return EntryPoint(name, value, GROUP).load()


def _some_offer() -> bool:
    """Whether any installed package may have an entry point for tools: a look at its own file of them, without reading what else it says."""
    for folder in dict.fromkeys(map(Path, sys.path)):
        if folder.is_file():  # a zipped one: only importlib can look inside
            return True
        for file in _offers(folder):
            try:
                if _MARK in file.read_bytes():
                    return True
            except OSError:
                continue
    return False


def _offers(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
    except OSError:
        return
    for name in names:
        yield folder / name / "entry_points.txt"
