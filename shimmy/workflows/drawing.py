"""A workflow's graph in lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from shimmy.workflows.workflow import Conditional, Llm, Map, Nested, Step, ToolFields, TransformFields, Workflow

_LONGEST = 60  # characters of what a step does


def draw(workflow: Workflow) -> Iterator[str]:
    """Each step with its rank, what it does, and what it waits for; those of one rank run at the same time."""
    name = workflow.fields.name or workflow.fields.id
    if name:
        yield name
    ranks = _ranks(workflow)
    width = max(map(len, workflow.steps))
    for id_ in sorted(workflow.steps, key=lambda each: ranks[each]):
        step, needs = workflow.steps[id_], sorted(workflow.needs[id_])
        after = f"  <- {', '.join(needs)}" if needs else ""
        yield f"{ranks[id_]:2}  {id_.ljust(width)}  {_does(step)}{after}"
        yield from _within(step, " " * (width + 6))
    outputs = ", ".join(workflow.outputs)
    yield f"=>  {outputs}"


def _ranks(workflow: Workflow) -> dict[str, int]:
    """1 for steps that wait for nobody, and one more than the last of those that a step waits for."""
    ranks: dict[str, int] = {}
    while len(ranks) < len(workflow.steps):
        for id_, needs in workflow.needs.items():
            if id_ not in ranks and needs <= ranks.keys():
                ranks[id_] = 1 + max((ranks[each] for each in needs), default=0)
    return ranks


def _within(step: Step, indent: str) -> Iterator[str]:
    match step.work:
        case Conditional(if_true=one, if_false=other):
            yield f"{indent}then {_does(one)}"
            yield from _within(one, indent + "  ")
            if other is not None:
                yield f"{indent}else {_does(other)}"
                yield from _within(other, indent + "  ")
        case Map(step=inner):
            yield f"{indent}each {_does(inner)}"
            yield from _within(inner, indent + "  ")
        case Nested(workflow=workflow):
            for line in draw(workflow):
                yield f"{indent}{line}"


def _does(step: Step) -> str:
    match step.work:
        case Llm(fields=fields):
            return _short(f"llm {fields.get('model') or 'default'}: {fields.get('prompt') or 'a conversation'}")
        case ToolFields(tool=tool):
            return f"tool {tool}"
        case TransformFields(expression=expression):
            return _short(f"transform {expression}")
        case Conditional(condition=condition):
            return _short(f"if {condition}")
        case Map(items=items, concurrency=concurrency):
            what = items if isinstance(items, str) else f"{len(items)} items"
            return f"map over {_short(what)}, {concurrency} at once"
        case Nested():
            return "workflow"


def _short(text: str) -> str:
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
