"""From JSON to a workflow: every field's type, every id, the caps on steps and depth. What refers to what is checking.py's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from shimmy.errors import InvalidRequest, quoted
from shimmy.workflows.caps import MAX_DEPTH, MAX_STEPS
from shimmy.workflows.language import LanguageModel
from shimmy.workflows.values import texts, wrong
from shimmy.workflows.workflow import (
    Conditional,
    ConditionalFields,
    Identifier,
    Llm,
    Map,
    MapFields,
    Nested,
    NestedFields,
    Step,
    StepFields,
    ToolFields,
    TransformFields,
    Work,
    Workflow,
    WorkflowFields,
)

TYPES = ("llm", "tool", "transform", "conditional", "map", "workflow")
_HEAD = frozenset(StepFields.__struct_fields__)
_OUTER = frozenset({"id", "depends_on"})
_AT = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_FIELD = re.compile(r"^Object (?:contains unknown|missing required) field `(.*)`$", re.DOTALL)
_LONGEST = 300  # characters of what msgspec says: a value may be in it
_T = TypeVar("_T")


Finish = Callable[[WorkflowFields, Mapping[str, Step], str, frozenset[str]], Workflow]
"""From fields, steps, the place, and the names of inputs that are given besides its own."""


class Outer(NamedTuple):
    """The part of a step that only those of a workflow have, not those within others."""

    id: str
    depends_on: tuple[str, ...]


class Reader:
    """Reads one workflow with all that is within it; counts its steps."""

    def __init__(self, language: LanguageModel, finish: Finish) -> None:
        """``language`` knows the fields of llm steps; ``finish`` makes a workflow within another of its steps."""
        self._language = language
        self._finish = finish
        self._n_steps = 0

    def workflow(self, given: object, place: str = "", depth: int = 1) -> tuple[WorkflowFields, dict[str, Step]]:
        """Its fields and its steps by id. Raises InvalidRequest naming the place."""
        raw = given.get("steps") if isinstance(given, dict) else None
        if isinstance(raw, list) and len(raw) > MAX_STEPS:  # before anybody reads them
            raise wrong(_join(place, "steps"), f"there are {len(raw):,}; {MAX_STEPS} are allowed")
        fields = convert(given, WorkflowFields, place)
        if not fields.steps:
            raise wrong(_join(place, "steps"), "there are none: a workflow has one at least")
        steps: dict[str, Step] = {}
        for at, step in enumerate(fields.steps):
            where = _join(place, f"steps[{at}]")
            read = self._step(step, where, depth, self._outer(step, where))
            if read.id in steps:
                raise wrong(f"{where}.id", f"{steps[read.id].place} has the id {quoted(read.id)} already")
            steps[read.id] = read
        return fields, steps

    @staticmethod
    def _outer(raw: dict[str, Any], place: str) -> Outer:
        if "id" not in raw:
            raise wrong(f"{place}.id", "it is missing")
        id_ = convert(raw["id"], Identifier, f"{place}.id")
        return Outer(id_, tuple(convert(raw.get("depends_on") or [], list[str], f"{place}.depends_on")))

    def _step(self, raw: dict[str, Any], place: str, depth: int, outer: Outer | None = None) -> Step:
        """``outer`` None: a step within another, which has no id."""
        self._n_steps += 1
        if self._n_steps > MAX_STEPS:
            raise wrong(place, f"with it there are over {MAX_STEPS} steps, those within others included")
        if depth > MAX_DEPTH:
            raise wrong(place, f"it is over {MAX_DEPTH} steps deep within others")
        kind = raw.get("type")
        if kind not in TYPES:
            what = "it is missing" if kind is None else f"there is no type {quoted(str(kind))}"
            raise wrong(f"{place}.type", f"{what}; steps are of type {', '.join(TYPES)}")
        head = convert(
            {name: raw[name] for name in raw if name in _HEAD and (raw[name] is not None or name == "default")},
            StepFields,
            place,
        )
        if (head.on_error == "default") != (head.default is not UNSET):
            raise wrong(f"{place}.default", 'it goes with "on_error": "default"')
        if outer is None and (extra := _OUTER & raw.keys()):
            raise wrong(f"{place}.{min(extra)}", "a step within another has none")
        own = {
            name: value
            for name, value in raw.items()
            if name not in _HEAD and name not in _OUTER and (value is not None or name == "input")
        }
        work = self._work(str(kind), own, place, depth)
        id_, depends_on = outer or ("", ())
        return Step(id_, place, head, depends_on, work)

    def _work(self, kind: str, own: dict[str, Any], place: str, depth: int) -> Work:
        match kind:
            case "llm":
                return self._llm(own, place)
            case "tool":
                return convert(own, ToolFields, place)
            case "transform":
                return convert(own, TransformFields, place)
            case "conditional":
                choice = convert(own, ConditionalFields, place)
                other = choice.if_false
                return Conditional(
                    choice.condition,
                    self._step(choice.if_true, f"{place}.if_true", depth + 1),
                    None if other is None else self._step(other, f"{place}.if_false", depth + 1),
                )
            case "map":
                each = convert(own, MapFields, place)
                return Map(each.items, self._step(each.step, f"{place}.step", depth + 1), each.concurrency)
            case _:
                return self._nested(convert(own, NestedFields, place), place, depth)

    def _llm(self, own: dict[str, Any], place: str) -> Llm:
        for _ in texts(own, place):  # not nested too deep
            pass
        try:
            self._language.check(own)
        except InvalidRequest as error:
            param = str(error.facts.get("param") or "")
            said = error.message.removeprefix(f"{param}: ") if param else error.message
            raise _wrong(said, _join(place, param)) from None
        return Llm(own)

    def _nested(self, given: NestedFields, place: str, depth: int) -> Nested:
        where = f"{place}.workflow"
        fields, steps = self.workflow(given.workflow, where, depth + 1)
        return Nested(self._finish(fields, steps, where, frozenset(given.inputs)), given.inputs)


def convert(given: object, kind: type[_T], place: str) -> _T:
    """``given`` as ``kind``. Raises InvalidRequest naming the place."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), place) from None
    except RecursionError:
        raise wrong(place, "it is nested too deep") from None


def _wrong(message: str, place: str) -> InvalidRequest:
    found = _AT.search(message)
    what = message[: found.start()] if found else message
    inner = found[1].lstrip(".") if found else ""
    if field := _FIELD.match(what):
        inner = f"{inner}.{field[1]}" if inner else field[1]
        what = "it is missing" if "missing" in what else "there is no such field"
    return wrong(_join(place, inner), what if len(what) <= _LONGEST else what[:_LONGEST] + "…")


def _join(place: str, inner: str) -> str:
    if not place or not inner:
        return place or inner
    return f"{place}{inner}" if inner.startswith("[") else f"{place}.{inner}"
