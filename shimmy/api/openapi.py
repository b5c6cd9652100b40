"""GET /openapi.json: the API described, from the routes and the types that parse their requests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import msgspec

from shimmy import __version__
from shimmy.api.base import JSON, ApiHandler
from shimmy.api.errors import KINDS, WORTH_ANOTHER_TRY, ErrorAnswer
from shimmy.api.routes import PATH_NAME, WEBSOCKET, Operation, Route, all_routes
from shimmy.api.schemas import Schema, schemas_of

EVENTS = "text/event-stream"
GROUPS = {
    "model": (
        "model_not_found",
        "context_length_exceeded",
        "conflict",
        "generation_failed",
        "server_busy",
        "model_failed",
        "insufficient_memory",
    )
}
"""Words of Operation.errors that stand for several codes."""
_ALWAYS = ("forbidden", "server_error")
_COUNTED = ("rate_limited", "server_busy")
_WITH_BODY = ("invalid_request", "payload_too_large", "unsupported_media_type")
_ABOUT = (
    "GGUF models over REST, Server-Sent Events and WebSocket, and OpenAI's API. Every answer that is no success has the same"
    " shape, ErrorAnswer; `code` is stable. In bodies unknown fields are ignored and null means absent."
)
_TAGS = {
    "openai": ("OpenAI's API", "For clients that are made for it."),
    "native": ("Shimmy's own", "Text for a prompt, and what belongs to it."),
    "models": ("Models", "Which there are, and which are loaded."),
    "tools": ("Tools", "Functions that a client, a model or a workflow may call."),
    "workflows": ("Workflows", "Several calls of models and tools as one request."),
    "server": ("The server", "Is it there, what does it do, what does it understand."),
}
"""Title and description of the tags that are known; another is its own title."""


@cache
def openapi(*, keys: bool) -> Schema:
    """The document, OpenAPI 3.1. ``keys``: a request needs one."""
    routes = [route for route in all_routes() if route.operations]
    schema_of, components = _schemas(routes)
    security: Schema = {}
    if keys:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        security = {"security": [{"bearer": []}, {"x-api-key": []}]}
    used = {route.tag for route in routes}
    names = [name for name in dict.fromkeys([*_TAGS, *sorted(used)]) if name in used]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "shimmy",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        **security,
        "tags": [_tag(name) for name in names],
        "paths": {route.path: _path(route, schema_of, keys=keys) for route in routes},
        "components": components,
    }


def _tag(name: str) -> Schema:
    title, description = _TAGS.get(name, (name, ""))
    return {"name": name, "x-displayName": title, "description": description}


class _SchemaOf:
    """The schema of a type that a route names, or of several, of which each may come."""

    def __init__(self, kinds: list[Any], schemas: list[Schema]) -> None:
        self._found = list(zip(kinds, schemas, strict=True))

    def __call__(self, kind: Any) -> Schema:
        if isinstance(kind, tuple):
            return {"anyOf": [self(each) for each in kind]}
        return next(schema for known, schema in self._found if known is kind)


def _schemas(routes: list[Route]) -> tuple[_SchemaOf, Schema]:
    kinds: list[Any] = [ErrorAnswer]
    for route in routes:
        for operation in route.operations:
            for kind in (operation.body, operation.answer, operation.events):
                kinds += kind if isinstance(kind, tuple) else [] if kind is None else [kind]
    schemas, components = schemas_of(kinds)
    return _SchemaOf(kinds, schemas), {"schemas": components}


def _path(route: Route, schema_of: _SchemaOf, *, keys: bool) -> Schema:
    path: Schema = {}
    if names := PATH_NAME.findall(route.path):
        path["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    for operation in route.operations:
        path[operation.method] = _operation(route, operation, schema_of, keys=keys)
    return path


def _operation(route: Route, operation: Operation, schema_of: _SchemaOf, *, keys: bool) -> Schema:
    found: Schema = {
        "operationId": "_".join([operation.method, *re.findall(r"\w+", route.path)]),
        "summary": operation.summary,
    }
    if operation.description:
        found["description"] = operation.description
    found["tags"] = [route.tag]
    if keys and not route.handler.needs_key:
        found["security"] = []
    example = {} if operation.example is None else {"example": operation.example}
    if operation.status == WEBSOCKET:
        found["x-websocket"] = {"send": schema_of(operation.body), "receive": schema_of(operation.events), **example}
    elif operation.body is not None:
        found["requestBody"] = {
            "required": _is_needed(operation.body),
            "content": {JSON: {"schema": schema_of(operation.body), **example}},
        }
    found["responses"] = {str(operation.status): _success(operation, schema_of), **_errors(route, operation, schema_of)}
    return found


def _is_needed(body: Any) -> bool:
    """An empty body counts as {}: it may be left out where no field is required."""
    if isinstance(body, type) and issubclass(body, msgspec.Struct):
        return any(field.required for field in msgspec.structs.fields(body))
    return True


def _success(operation: Operation, schema_of: _SchemaOf) -> Schema:
    content: Schema = {}
    if operation.status == WEBSOCKET:
        return {"description": "The connection is a WebSocket from here on"}
    if operation.answer is not None:
        content[operation.media] = {"schema": schema_of(operation.answer)}
    if operation.events is not None:
        said = "Each data line is one of x-event, or an ErrorAnswer where the stream breaks off; [DONE] may follow the last"
        content[EVENTS] = {
            "schema": {"description": said},  # untyped: some readers mean the body by it, and some each event
            "x-event": schema_of(operation.events),
        }
    return {"description": "Done", **({"content": content} if content else {})}


def _errors(route: Route, operation: Operation, schema_of: _SchemaOf) -> Schema:
    """By status, which codes there are."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(_codes(route, operation)):
        by_status.setdefault(KINDS[code].status, []).append(code)
    content = {JSON: {"schema": schema_of(ErrorAnswer)}}
    wait = {"Retry-After": {"description": "Seconds until it is worth another try", "schema": {"type": "integer"}}}
    return {
        str(status): {
            "description": " or ".join(codes),
            **({"headers": wait} if WORTH_ANOTHER_TRY.intersection(codes) else {}),
            "content": content,
        }
        for status, codes in sorted(by_status.items())
    }


def _codes(route: Route, operation: Operation) -> Iterator[str]:
    yield from _ALWAYS
    if route.handler.needs_key:
        yield "unauthorized"
        yield from _COUNTED
    if operation.method == "post":
        yield from _WITH_BODY
    yield from _flat(operation.errors)


def _flat(errors: Iterable[str]) -> Iterator[str]:
    for error in errors:
        yield from GROUPS.get(error, (error,))


class OpenApiHandler(ApiHandler):
    """The document, to everybody."""

    needs_key = False

    async def get(self) -> None:
        """As it is for this server. Made once, in a thread: it takes as long as a dozen tokens."""
        self.answer(await asyncio.to_thread(openapi, keys=bool(self.services.keys)))


ROUTES = [
    Route(
        "/openapi.json",
        OpenApiHandler,
        (Operation("get", "This description, as OpenAPI 3.1", answer=dict[str, Any]),),
        "server",
    )
]
