"""The default model is made to call functions: whatever it draws, the call is there and its arguments fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.conversations import NO_TEMPLATES, TEMPLATES
from tests.worker.forced import count
from tests.worker.running import run

HERMES = TEMPLATES / "Qwen-Qwen2.5-7B-Instruct.jinja"


def test_each_answer_calls_what_it_must(default_model: Path) -> None:
    assert [set(counted) for counted in run(count(default_model, 3, n_threads=2)).values()] == [{""}] * 3


@pytest.mark.slow
@pytest.mark.parametrize("template", [None, HERMES], ids=["its own template", "one that knows tools"])
def test_a_hundred_of_a_hundred_do(default_model: Path, template: Path | None) -> None:
    if template is not None and not template.exists():
        pytest.skip(NO_TEMPLATES)
    source = None if template is None else template.read_text(encoding="utf-8")
    assert [set(counted) for counted in run(count(default_model, 100, source, n_threads=2)).values()] == [{""}] * 3
