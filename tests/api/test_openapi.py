"""GET /openapi.json: valid, complete, and true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shimmy.api.openapi import openapi
from shimmy.api.routes import WEBSOCKET, Operation, Route, all_routes
from shimmy.api.schemas import described, schemas_of
from tests.api.serving import Running, serving

OPERATIONS = [(route, operation) for route in all_routes() for operation in route.operations]


def schema_errors(schema: dict[str, Any], document: dict[str, Any], value: object) -> list[str]:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator({**schema, "components": document["components"]})
    return [error.message for error in validator.iter_errors(value)]


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    answer = server.get("/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    found: dict[str, Any] = answer.json
    return found


@pytest.mark.parametrize("keys", [True, False])
def test_the_document_is_valid_openapi_3_1(keys: bool) -> None:
    found = openapi(keys=keys)
    assert found["openapi"].startswith("3.1")
    assert [error.message for error in OpenAPIV31SpecValidator(found).iter_errors()] == []


@pytest.mark.parametrize(("route", "operation"), OPERATIONS, ids=lambda value: getattr(value, "path", ""))
def test_every_operation_is_listed_with_its_types(route: Route, operation: Operation, document: dict[str, Any]) -> None:
    listed = document["paths"][route.path][operation.method]
    assert listed["summary"] == operation.summary
    assert ("requestBody" in listed) == (operation.body is not None and operation.status != WEBSOCKET)
    content = listed["responses"][str(operation.status)].get("content", {})
    if operation.status != WEBSOCKET:
        assert (operation.media in content) == (operation.answer is not None)
        assert ("text/event-stream" in content) == (operation.events is not None)


def test_every_route_is_described() -> None:
    assert [route.path for route in all_routes() if not route.operations] == []


def test_every_field_that_may_be_absent_may_be_null(document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    waiting: list[Any] = [
        body
        for path in document["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict)
        for body in (operation.get("requestBody"), operation.get("x-websocket", {}).get("send"))
    ]
    seen = set()
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            waiting += found.values()
            name = str(found.get("$ref", "")).rpartition("/")[2]
            if name and name not in seen:
                seen.add(name)
                waiting.append(components[name])
    assert len(seen) > 10
    for name in seen:
        for field, schema in components[name]["properties"].items():
            if field not in components[name].get("required", ()):
                assert not schema_errors(schema, document, None), f"{name}.{field}"


def test_only_errors_that_pass_have_a_time_to_wait(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in (value for value in path.values() if isinstance(value, dict)):
            for response in operation["responses"].values():
                passes = {"rate_limited", "server_busy"} & set(response["description"].split(" or "))
                assert ("headers" in response) == bool(passes)


def test_every_error_has_the_one_shape(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for method in ("get", "post", "delete"):
            responses = path.get(method, {}).get("responses", {})
            for status, response in responses.items():
                if int(status) >= 400:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}


def test_examples_are_what_the_types_take() -> None:
    examples = [(operation.example, operation.body) for _, operation in OPERATIONS if operation.example is not None]
    assert examples
    for example, body in examples:
        msgspec.convert(example, body[0] if isinstance(body, tuple) else body)


def test_an_answer_an_event_and_an_error_match_their_schemas(server: Running, document: dict[str, Any]) -> None:
    ask = {"model": "default", "prompt": "hello", "max_tokens": 3}
    responses = document["paths"]["/api/generate"]["post"]["responses"]
    content = responses["200"]["content"]
    whole = server.post("/api/generate", ask)
    assert schema_errors(content["application/json"]["schema"], document, whole.json) == []
    events = server.post("/api/generate", {**ask, "stream": True}).events
    assert events
    for event in events:
        assert schema_errors(content["text/event-stream"]["x-event"], document, event) == []
    error = server.post("/api/generate", {"model": "default"})
    schema = responses[str(error.status)]["content"]["application/json"]["schema"]
    assert schema_errors(schema, document, error.json) == []


def test_fields_carry_what_their_types_docstrings_say(document: dict[str, Any]) -> None:
    request = document["components"]["schemas"]["NativeRequest"]
    assert request["description"] == "A prompt to go on with."
    assert request["properties"]["stop"]["description"] == "a text, or up to 16, that end the answer"
    assert request["properties"]["json_schema"]["description"] == "a JSON schema whose JSON it is"
    assert request["properties"]["chat"]["description"].startswith("put the prompt through")


def test_a_docstring_is_parted_into_the_whole_and_its_fields() -> None:
    class Thing:
        """A thing.

        size, weight   how much there is
                       of it; colour: as ``#rrggbb``
        name     what it is called; never empty

        More of the thing.
        """

    about, fields = described(Thing, ["size", "weight", "colour", "name"])
    assert about == "A thing.\n\nMore of the thing."
    assert fields["size"] == fields["weight"] == "how much there is of it; colour: as `#rrggbb`"
    assert fields["name"] == "what it is called; never empty"


def test_structs_within_unions_lists_and_dictionaries_are_described() -> None:
    class Inner(msgspec.Struct):
        """Inside.

        depth   how deep
        """

        depth: int

    for kind in (list[Inner], dict[str, Inner], Inner | None, tuple[int, Inner]):
        _, components = schemas_of([kind])
        assert components["Inner"]["properties"]["depth"]["description"] == "how deep"


@pytest.fixture(scope="module")
def locked(tiny_llama: Path) -> Iterator[Running]:
    with serving(tiny_llama, api_keys="secret") as running:
        yield running


def test_with_keys_it_needs_none_and_names_the_ways_to_give_one(locked: Running) -> None:
    answer = locked.get("/openapi.json")
    assert answer.status == 200
    found = answer.json
    assert found["components"]["securitySchemes"]["x-api-key"]["in"] == "header"
    assert {"bearer": []} in found["security"]
    assert found["paths"]["/health"]["get"]["security"] == []
    assert "security" not in found["paths"]["/api/generate"]["post"]


def test_without_keys_there_is_no_security(document: dict[str, Any]) -> None:
    assert "security" not in document
    assert "securitySchemes" not in document["components"]
