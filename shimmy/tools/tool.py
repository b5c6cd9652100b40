"""A tool: a plain annotated function, its signature as a JSON schema, and its arguments checked against that."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, get_type_hints

import msgspec

from shimmy.errors import InvalidRequest, ShimmyError, quoted
from shimmy.tools.frames import Description, ToolSettings

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_AT = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_FIELD = re.compile(r"`(\w+)`$")
_NO_FIELD = ("Object missing required field", "Object contains unknown field")
_SECTION = re.compile(r"\s*(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?):\s*$")
_LONGEST = 300  # characters of what msgspec says: a value may be in it


class BadTool(ShimmyError):
    """A function that cannot be a tool; the message names it and says why."""

    code = "bad_tool"


class Tool:
    """One function with what callers need to know of it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises BadTool where its name, signature or docstring does not do."""
        name = getattr(function, "__name__", "")
        if not inspect.isfunction(function) or not NAME.fullmatch(name):
            raise BadTool(f"{quoted(str(function))} is no function with a name of 1 to 64 letters, digits, _ and -")
        self._function = function
        self._settings: str | None = None  # the parameter that takes ToolSettings
        about, said = _parted(inspect.getdoc(function) or "")
        if not about:
            raise BadTool(f"the tool {name} has no docstring: callers choose it by that")
        self._arguments = self._struct(name, said)
        self.description = Description(name, about, self._schema(name))

    @property
    def name(self) -> str:
        """The function's."""
        return self.description.name

    def call(self, arguments: bytes, settings: ToolSettings) -> object:
        """What the function returns. Raises InvalidRequest for arguments (JSON) that it does not take, and what it raises."""
        taken = self._read(arguments)
        given = {field: getattr(taken, field) for field in self._arguments.__struct_fields__}  # type: ignore[attr-defined]
        if self._settings is not None:
            given[self._settings] = settings
        result = self._function(**given)
        if inspect.iscoroutine(result):
            import asyncio

            return asyncio.run(result)
        return result

    def _read(self, arguments: bytes) -> object:
        try:
            return msgspec.json.decode(arguments, type=self._arguments)
        except msgspec.ValidationError as error:
            raise _wrong(self.name, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(
                f"invalid arguments of {self.name}: no valid JSON: {error}", param="arguments"
            ) from None
        except RecursionError:
            raise InvalidRequest(f"invalid arguments of {self.name}: nested too deep", param="arguments") from None

    def _struct(self, name: str, said: dict[str, str]) -> type:
        """The arguments as a type that msgspec checks."""
        try:
            hints = get_type_hints(self._function, include_extras=True)
        except Exception as error:  # noqa: BLE001 - annotations are code of whoever wrote the tool
            raise BadTool(f"the tool {name}: its annotations cannot be read: {error}") from None
        fields: list[Any] = []
        for parameter in inspect.signature(self._function).parameters.values():
            if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
                raise BadTool(f"the tool {name}: {parameter} cannot be given by name")
            kind = hints.get(parameter.name)
            if kind is ToolSettings:
                self._settings = parameter.name
                continue
            if parameter.name not in hints:
                raise BadTool(f"the tool {name}: the parameter {parameter.name} has no annotation")
            if parameter.name in said:
                # What the signature itself says, by Meta(description=...), is nearer and wins.
                kind = msgspec_annotated(kind, said[parameter.name])
            fields.append((parameter.name, kind, *_default(parameter)))
        return msgspec.defstruct(f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True)

    def _schema(self, name: str) -> dict[str, Any]:
        try:
            (root,), parts = msgspec.json.schema_components([self._arguments], ref_template="#/$defs/{name}")
        except Exception as error:  # noqa: BLE001 - whatever an annotation is
            raise BadTool(f"the tool {name}: {error}") from None
        schema = dict(parts.pop(root["$ref"].removeprefix("#/$defs/")))
        schema.pop("title")
        return {**schema, "$defs": parts} if parts else schema


def tools_of(functions: Iterable[Callable[..., Any]]) -> list[Tool]:
    """A tool of each. Raises BadTool."""
    return [Tool(function) for function in functions]


def msgspec_annotated(kind: Any, description: str) -> Any:
    """``kind`` with a description, unless it has one."""
    from typing import Annotated

    metas = [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    if any(meta.description for meta in metas):
        return kind
    return Annotated[kind, msgspec.Meta(description=description)]


def _default(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The default as defstruct takes it; a list or the like is made anew for each call."""
    default = parameter.default
    if default is parameter.empty:
        return ()
    if isinstance(default, list | dict | set | bytearray):
        return (msgspec.field(default_factory=default.copy),)
    return (default,)


def _wrong(name: str, message: str) -> InvalidRequest:
    """What msgspec says of a value, with the place as a client writes it."""
    found = _AT.search(message)
    place, what = (found[1].lstrip("."), message[: found.start()]) if found else ("", message)
    if what.startswith(_NO_FIELD) and (field := _FIELD.search(what)):
        place = f"{place}.{field[1]}" if place else field[1]
    what = what if len(what) <= _LONGEST else what[:_LONGEST] + "…"
    where = f"{place}: " if place else ""
    param = "arguments" if not place else f"arguments{place}" if place.startswith("[") else f"arguments.{place}"
    return InvalidRequest(f"invalid arguments of {name}: {where}{what}", param=param)


def _parted(doc: str) -> tuple[str, dict[str, str]]:
    """A docstring as what it says of the whole, and of each parameter in its section Args (Google's style)."""
    about: list[str] = []
    said: dict[str, str] = {}
    section = current = ""
    for line in doc.splitlines():
        if found := _SECTION.fullmatch(line):
            section = found[1]
        elif not section:
            about.append(line)
        elif section in {"Args", "Arguments", "Parameters"}:
            entry = re.fullmatch(r"\s{1,8}\*{0,2}(\w+)(?: ?\([^)]*\))?:\s+(\S.*)", line)
            if entry:
                current = entry[1]
                said[current] = entry[2].strip()
            elif current and line.strip():
                said[current] += f" {line.strip()}"
    return "\n".join(about).strip(), said
