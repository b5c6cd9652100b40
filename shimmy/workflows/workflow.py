"""A workflow as it is written, and as it is once it has been read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shimmy.workflows.caps import MAX_ATTEMPTS, MAX_CONCURRENCY, MAX_EXPRESSION, MAX_TIMEOUT_S, MAX_WAIT_S

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
Seconds = Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_S)]
Expression = Annotated[str, Meta(min_length=1, max_length=MAX_EXPRESSION)]


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a step that fails is tried.

    max_attempts   in all; 1 is once
    backoff_s      seconds before the second; factor: how much longer before each further one
    max_backoff_s  the longest of these waits
    """

    max_attempts: Annotated[int, Meta(ge=1, le=MAX_ATTEMPTS)] = 3
    backoff_s: Annotated[float, Meta(ge=0, le=MAX_WAIT_S)] = 0.5
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    max_backoff_s: Annotated[float, Meta(ge=0, le=MAX_WAIT_S)] = 30.0

    def wait_s(self, attempt: int) -> float:
        """Before the attempt behind number ``attempt``, which counts from 1."""
        return min(self.backoff_s * self.factor ** (attempt - 1), self.max_backoff_s)


class WorkflowFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several steps as one request.

    id, name, description  whatever its writer calls it
    inputs        values that ``${inputs.NAME}`` puts in; input_schema: a JSON schema that they fit
    steps         up to 64; docs/workflows.md has their fields
    outputs       ids of the steps whose results are the answer, or an object of values with references; none: the last step's result
    timeout_s     seconds for all of it; max_tokens: of all prompts and answers of its models. No more than the server allows
    """

    steps: list[dict[str, Any]]
    id: Annotated[str, Meta(max_length=256)] | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    description: Annotated[str, Meta(max_length=16_384)] | None = None
    inputs: dict[str, Any] | None = None
    input_schema: dict[str, Any] | None = None
    outputs: list[str] | dict[str, Any] | None = None
    timeout_s: Seconds | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**53)] | None = None


class StepFields(msgspec.Struct, frozen=True, kw_only=True):
    """What every step may have.

    retry      how often it is tried; timeout_s: seconds for each attempt
    on_error   what becomes of the workflow when it fails: fail, skip (its result is null), default (its result is ``default``)
    """

    type: str
    retry: Retry | None = None
    timeout_s: Seconds | None = None
    on_error: Literal["fail", "skip", "default"] = "fail"
    default: Any | UnsetType = UNSET


class ToolFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool."""

    tool: Name
    arguments: dict[str, Any] = {}


class TransformFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A JMESPath expression over ``input``, else over all values: inputs, steps, context."""

    expression: Expression
    input: Any | UnsetType = UNSET


class ConditionalFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step or another."""

    condition: Expression
    if_true: dict[str, Any]
    if_false: dict[str, Any] | None = None


class MapFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step for each of a list, which it finds as ``${item}``, its number as ``${index}``."""

    items: list[Any] | str
    step: dict[str, Any]
    concurrency: Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)] = 8


class NestedFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another workflow; ``inputs`` come before its own."""

    workflow: dict[str, Any]
    inputs: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Llm:
    """What a model is asked, as the language model's own types read it."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conditional:
    """One step or another."""

    condition: str
    if_true: Step
    if_false: Step | None


@dataclass(frozen=True, slots=True)
class Map:
    """A step for each of a list."""

    items: list[Any] | str
    step: Step
    concurrency: int


@dataclass(frozen=True, slots=True)
class Nested:
    """Another workflow."""

    workflow: Workflow
    inputs: Mapping[str, Any]


Work = Llm | ToolFields | TransformFields | Conditional | Map | Nested


@dataclass(frozen=True, slots=True)
class Step:
    """A step that has been read. ``place``: where it stands, as ``steps[2]``; a step within another has no id of its own."""

    id: str
    place: str
    fields: StepFields
    depends_on: tuple[str, ...]
    work: Work


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow that has been read and checked.

    needs   for each step the steps that must be finished first, those that it only refers to included
    outputs what the answer is made of, with references
    """

    fields: WorkflowFields
    inputs: Mapping[str, Any]
    steps: Mapping[str, Step]
    needs: Mapping[str, frozenset[str]]
    outputs: Mapping[str, Any]
