"""What refers to what: unknown steps, cycles, references to nothing. All of it before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import UNSET

from shimmy.errors import InvalidRequest, quoted
from shimmy.workflows.caps import MAX_ITEMS, MAX_REFERENCES, MAX_REQUEST, MAX_STEPS, MAX_TEXTS, MAX_VALUES
from shimmy.workflows.conditions import check_condition
from shimmy.workflows.language import LITERAL, LanguageModel
from shimmy.workflows.queries import check_query
from shimmy.workflows.reading import Reader
from shimmy.workflows.references import Path, find_references, is_reference
from shimmy.workflows.values import BadValue, count_values, texts, wrong
from shimmy.workflows.workflow import (
    Conditional,
    Llm,
    Map,
    Nested,
    Step,
    ToolFields,
    TransformFields,
    Workflow,
    WorkflowFields,
)

_LONGEST_NAME = 64  # characters of a name that an error tells
_MOST_NAMES = 64
_OF_A_STEP = ("result", "success", "error")
_OF_AN_ANSWER = ("text", "finish_reason", "usage", "json", "reasoning", "constraint")


class Use(NamedTuple):
    """A value that is read, and where."""

    place: str
    path: Path


class Known(NamedTuple):
    """What references may lead to."""

    inputs: frozenset[str]
    steps: Mapping[str, Step]
    context: frozenset[str]
    in_map: bool = False


def read_workflow(
    given: object,
    context: Mapping[str, Any],
    language: LanguageModel,
    check_tool: Callable[[str, Mapping[str, Any], str], None],
) -> Workflow:
    """A workflow from its JSON. ``check_tool`` takes a name, arguments and the place. Raises InvalidRequest naming the place."""
    _check_size(given, context)
    fields, steps = Reader(language, finish).workflow(given)
    for step in every_step(steps.values()):
        if isinstance(step.work, ToolFields):
            check_tool(step.work.tool, step.work.arguments, step.place)
    return finish(fields, steps, "", context=frozenset(context))


def _check_size(given: object, context: Mapping[str, Any]) -> None:
    """Raise InvalidRequest naming the field with which there are too many values in all: each of them is looked at more than once."""
    left = MAX_VALUES
    for place, value in _parts(given, context):
        try:
            left -= count_values(value, MAX_REQUEST, left)
        except BadValue:
            raise wrong(place, f"with it there are over {MAX_VALUES:,} values in the workflow") from None


def _parts(given: object, context: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """The fields of a workflow and of its steps, each with its place, as far as they are such."""
    for name, value in given.items() if isinstance(given, dict) else ():
        if name != "steps" or not isinstance(value, list):
            yield name, value
        elif len(value) <= MAX_STEPS:  # else they are refused for that
            for at, step in enumerate(value):
                for field, inner in step.items() if isinstance(step, dict) else ():
                    yield f"steps[{at}].{field}", inner
    yield "context", context


def every_step(steps: Iterator[Step] | Any) -> Iterator[Step]:
    """Those of a workflow with all within them."""
    for step in steps:
        yield step
        match step.work:
            case Conditional(if_true=one, if_false=other):
                yield from every_step([one] if other is None else [one, other])
            case Map(step=inner):
                yield from every_step([inner])
            case Nested(workflow=workflow):
                yield from every_step(workflow.steps.values())


def finish(
    fields: WorkflowFields,
    steps: Mapping[str, Step],
    place: str,
    given_inputs: frozenset[str] = frozenset(),
    context: frozenset[str] = frozenset(),
) -> Workflow:
    """The workflow of steps that have been read. Raises InvalidRequest."""
    known = Known(_inputs(fields) | given_inputs, steps, context)
    _check_inputs(fields, given_inputs, place)
    edges: dict[str, dict[str, str]] = {}
    for step in steps.values():
        needs: dict[str, str] = {}  # id -> the place that names it first
        for at, name in enumerate(step.depends_on):
            where = f"{step.place}.depends_on[{at}]"
            _check_step(name, steps, where)
            needs.setdefault(name, where)
        for use in _uses(step, known):
            if use.path[0] == "steps" and len(use.path) > 1:
                needs.setdefault(str(use.path[1]), use.place)
        edges[step.id] = needs
    _refuse_cycles(edges)
    outputs = _outputs(fields, known, f"{place}.outputs" if place else "outputs")
    return Workflow(
        fields, fields.inputs or {}, steps, {id_: frozenset(needs) for id_, needs in edges.items()}, outputs
    )


def _inputs(fields: WorkflowFields) -> frozenset[str]:
    properties = (fields.input_schema or {}).get("properties")
    return frozenset(fields.inputs or ()) | (frozenset(properties) if isinstance(properties, dict) else frozenset())


def _check_inputs(fields: WorkflowFields, given: frozenset[str], place: str) -> None:
    """Those that the schema requires are there; their values are compared with it when the workflow begins."""
    required = (fields.input_schema or {}).get("required")
    for name in required if isinstance(required, list) else []:
        if name not in (fields.inputs or ()) and name not in given:
            raise wrong(
                f"{place}.inputs.{name}" if place else f"inputs.{name}", "it is missing: input_schema requires it"
            )


def _uses(step: Step, known: Known) -> Iterator[Use]:
    """What a step and those within it read, each checked."""
    for use in _own_uses(step):
        _check_use(use, known)
        yield use
    match step.work:
        case Conditional(if_true=one, if_false=other):
            yield from _uses(one, known)
            if other is not None:
                yield from _uses(other, known)
        case Map(step=inner):
            yield from _uses(inner, known._replace(in_map=True))


def _own_uses(step: Step) -> Iterator[Use]:
    work, place = step.work, step.place
    match work:
        case Llm(fields=fields):
            yield from _in_texts({name: value for name, value in fields.items() if name not in LITERAL}, place)
        case ToolFields():
            yield from _in_texts(work.arguments, f"{place}.arguments")
        case TransformFields():
            reads = _placed(check_query, work.expression, f"{place}.expression")
            if work.input is UNSET:
                yield from (Use(f"{place}.expression", path) for path in reads)
            else:
                yield from _in_texts(work.input, f"{place}.input")
        case Conditional():
            where = f"{place}.condition"
            yield from (Use(where, path) for path in _placed(check_condition, work.condition, where))
        case Map():
            if isinstance(work.items, list) and len(work.items) > MAX_ITEMS:
                raise wrong(f"{place}.items", f"there are {len(work.items):,}; {MAX_ITEMS:,} are allowed")
            if isinstance(work.items, str) and not is_reference(work.items):
                raise wrong(f"{place}.items", "it is a list, or one reference to a list")
            yield from _in_texts(work.items, f"{place}.items")
        case Nested():
            yield from _in_texts(dict(work.inputs), f"{place}.inputs")


def _in_texts(value: object, place: str) -> Iterator[Use]:
    left = MAX_REFERENCES
    for n_texts, (where, text) in enumerate(texts(value, place), 1):
        if n_texts > MAX_TEXTS:
            raise wrong(place, f"there are over {MAX_TEXTS:,} texts in it")
        left -= text.count("${")
        if left < 0:
            raise wrong(place, f"there are over {MAX_REFERENCES:,} references in it")
        if "${" in text:
            yield from (Use(where, reference.path) for reference in _placed(find_references, text, where))


def _placed(check: Callable[[str], Any], text: str, place: str) -> Any:
    try:
        return check(text)
    except InvalidRequest as error:
        raise wrong(place, error.message) from None


def _check_use(use: Use, known: Known) -> None:
    """Raise InvalidRequest where it is known already that a path leads to nothing."""
    root, *rest = use.path
    first = str(rest[0]) if rest else None
    if root in {"item", "index"}:
        if not known.in_map:
            raise wrong(use.place, f"there is no {root}: only the step of a map has one")
    elif root == "inputs" and first is not None and first not in known.inputs:
        raise wrong(use.place, f"there is no input {quoted(first)}{_there_are(known.inputs)}")
    elif root == "context" and first is not None and first not in known.context:
        raise wrong(use.place, f"there is no {quoted(first)} in the context{_there_are(known.context)}")
    elif root == "steps" and first is not None:
        _check_step(first, known.steps, use.place)
        _check_part(known.steps[first], list(map(str, rest[1:])), use.place)


def _check_step(name: str, steps: Mapping[str, Step], place: str) -> None:
    if name not in steps:
        raise wrong(place, f"there is no step {quoted(name)}{_there_are(steps)}")


def _check_part(step: Step, parts: list[str], place: str) -> None:
    if parts and parts[0] not in _OF_A_STEP:
        raise wrong(
            place,
            f"a step has {', '.join(_OF_A_STEP)}, and no {quoted(parts[0])}: steps.{step.id}.result is its result",
        )
    if len(parts) > 1 and parts[0] == "result" and isinstance(step.work, Llm) and step.fields.on_error == "fail":
        if parts[1] not in _OF_AN_ANSWER:
            raise wrong(place, f"the result of an llm step has {', '.join(_OF_AN_ANSWER)}, and no {quoted(parts[1])}")
        if parts[1] == "json" and step.work.fields.get("schema") is None:
            raise wrong(place, f"{step.place} has no schema, and so no json in its result")


def _there_are(names: Any) -> str:
    shown = ", ".join(
        name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…" for name in sorted(names)[:_MOST_NAMES]
    )
    more = ", …" if len(names) > _MOST_NAMES else ""
    return f"; there are: {shown}{more}" if names else "; there is none"


def _refuse_cycles(edges: Mapping[str, Mapping[str, str]]) -> None:
    left = {id_: set(needs) for id_, needs in edges.items()}
    while free := [id_ for id_, needs in left.items() if not needs]:
        for id_ in free:
            del left[id_]
        for needs in left.values():
            needs.difference_update(free)
    if not left:
        return
    way: list[str] = []
    at = next(iter(left))
    while at not in way:
        way.append(at)
        at = next(iter(sorted(left[at])))
    cycle = [*way[way.index(at) :], at]
    raise wrong(edges[cycle[0]][cycle[1]], f"the steps wait for one another: {' -> '.join(cycle)}")


def _outputs(fields: WorkflowFields, known: Known, place: str) -> Mapping[str, Any]:
    given = fields.outputs
    if given is None:
        last = list(known.steps)[-1]
        return {last: f"${{steps.{last}.result}}"}
    if isinstance(given, list):
        for at, name in enumerate(given):
            _check_step(name, known.steps, f"{place}[{at}]")
        return {name: f"${{steps.{name}.result}}" for name in given}
    for use in _in_texts(given, place):
        _check_use(use, known)
    return given
