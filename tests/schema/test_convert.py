"""Schemas as grammars: what a keyword says is held, or it is said that it is not."""

from __future__ import annotations

import json

import pytest

from shimmy.schema import convert
from tests.schema import corpus

HELD, UNHELD = corpus.held(), corpus.unheld()


@pytest.mark.parametrize("name", HELD)
def test_what_can_be_held_wholly_reports_nothing(name: str) -> None:
    assert convert(json.dumps(HELD[name])).unheld == ()


@pytest.mark.parametrize("name", UNHELD)
def test_what_cannot_be_held_is_reported_with_its_place(name: str) -> None:
    schema, unheld = UNHELD[name]
    assert [(one.path, one.keyword) for one in convert(json.dumps(schema)).unheld] == unheld
