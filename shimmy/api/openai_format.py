"""response_format: what shape an answer has."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.errors import InvalidRequest

_ANY_OBJECT = '{"type":"object"}'


class JsonSchemaFormat(msgspec.Struct):
    """``schema``: absent, any JSON object. ``strict``: refuse a schema with keywords that answers cannot be held to."""

    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """Text; any JSON object; or JSON that a schema describes."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None
    schema: dict[str, Any] | None = None  # llama-server's place for it beside json_object


def is_strict(given: ResponseFormat | None) -> bool:
    """Whether a schema that cannot be held wholly is to be refused."""
    return given is not None and given.json_schema is not None and bool(given.json_schema.strict)


def schema_of(given: ResponseFormat | None) -> str | None:
    """The JSON schema that the answer must match, as text; None: it is free. Raises InvalidRequest."""
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return _ANY_OBJECT if given.schema is None else msgspec.json.encode(given.schema).decode()
    if given.json_schema is None:
        raise InvalidRequest("response_format.json_schema: it is missing", param="response_format.json_schema")
    schema = given.json_schema.schema
    return _ANY_OBJECT if schema is None else msgspec.json.encode(schema).decode()
