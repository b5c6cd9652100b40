"""JSON schemas of the types that requests are parsed with and answers made of, with their docstrings as descriptions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import inspect as types

REF = "#/components/schemas/{name}"
_FIELD_LINE = re.compile(r"(\w+(?:, \w+)*) {2,}(\S.*)")  # "stop    what ends the answer", as docstrings here have it
_FURTHER_FIELD = re.compile(r"; (?=\w+: )")  # "...; json_schema: a schema", behind it

Schema = dict[str, Any]


def schemas_of(kinds: Iterable[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """A schema for each of ``kinds``, and the components that they refer to."""
    wanted = list(kinds)
    schemas, components = msgspec.json.schema_components(wanted, ref_template=REF)
    classes = {cls.__name__: cls for cls in _structs(wanted)}
    for name, component in components.items():
        if name in classes:
            _describe(component, classes[name])
    return list(schemas), components


def _describe(component: Schema, cls: type) -> None:
    """Give each field what the docstrings of its class, and of those before it, say of it; the class's own come first."""
    if "properties" not in component:
        return
    given = component["properties"]
    component["description"] = described(cls, given)[0]
    ordered: Schema = {}
    for base in cls.__mro__:
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            texts = described(base, given)[1]
            own = [name for name in given if name in vars(base).get("__annotations__", ())]
            for name in [*own, *texts]:
                field = ordered.setdefault(name, given[name])
                if name in texts:
                    field.setdefault("description", texts[name])
    component["properties"] = {**ordered, **given}


def described(cls: type, fields: Iterable[str]) -> tuple[str, dict[str, str]]:
    """A docstring parted into what it says of the whole and what of each of ``fields``."""
    known = set(fields)
    about: list[str] = []
    found: dict[str, str] = {}
    current: list[str] = []  # the fields that an indented line goes on about
    for line in inspect.cleandoc(cls.__doc__ or "").replace("``", "`").splitlines():
        match = _FIELD_LINE.fullmatch(line)
        names = match[1].split(", ") if match else []
        if match and set(names) <= known:
            current = names
            first, *others = _FURTHER_FIELD.split(match[2])
            found |= dict.fromkeys(names, first)
            for other in others:
                name, _, text = other.partition(": ")
                if name in known:
                    found[name] = text
                else:
                    found |= {each: f"{found[each]}; {other}" for each in names}
        elif current and line.startswith(" "):
            found |= {name: f"{found[name]} {line.strip()}" for name in current}
        else:
            current = []
            about.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(about)).strip(), found


def _structs(kinds: list[Any]) -> Iterator[type]:
    """The struct classes that ``kinds`` are made of."""
    seen: set[type] = set()
    waiting: list[Any] = list(types.multi_type_info(kinds))
    while waiting:
        info = waiting.pop()
        if isinstance(info, types.StructType):
            if info.cls in seen:
                continue
            seen.add(info.cls)
            yield info.cls
            waiting += [field.type for field in info.fields]
        else:
            waiting += _inside(info)


def _inside(info: Any) -> list[Any]:
    """The types within a union, a list, a dictionary or what carries metadata."""
    found: list[Any] = []
    for name in ("type", "types", "item_type", "item_types", "key_type", "value_type"):
        value = getattr(info, name, None)
        if isinstance(value, types.Type):
            found.append(value)
        elif isinstance(value, tuple):
            found += value
    return found
