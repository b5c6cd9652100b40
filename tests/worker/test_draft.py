"""A model that guesses for another: loaded beside it, refused where it cannot, and left out where nothing can be guessed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shimmy.errors import InvalidRequest, ModelFailed
from shimmy.types import GenerateRequest
from shimmy.worker.loading import LoadedModel, load
from shimmy.worker.protocol import DraftFile, Load, Loaded
from tests.tiny.models import write_llama
from tests.worker.running import GREEDY, collect, load_command, run, started


def with_draft(path: Path, draft: Path, **context: Any) -> Load:
    return msgspec.structs.replace(load_command(path, **context), draft=DraftFile("small", str(draft), 512))


def loaded(command: Load) -> tuple[LoadedModel, Loaded]:
    return load(command, lambda _: None)


def test_a_model_of_the_same_vocabulary_is_loaded_beside_its_target(tiny_llama: Path, tiny_moe: Path) -> None:
    found, report = loaded(with_draft(tiny_llama, tiny_moe, parallel=3))
    assert found.draft is not None
    assert found.draft.most == 3
    assert found.draft.window == 1024
    assert not report.notes
    assert report.draft == "small"


def test_another_vocabulary_is_refused_and_both_models_are_named(tiny_llama: Path, tmp_path: Path) -> None:
    other = write_llama(tmp_path / "other.gguf", n_vocab=500)
    with pytest.raises(InvalidRequest) as caught:
        loaded(with_draft(tiny_llama, other))
    assert caught.value.facts["param"] == "draft_model"
    assert caught.value.message.startswith("the draft model small cannot guess for tiny-llama: ")
    assert "the BOS token that texts are given is another one" in caught.value.message


@pytest.mark.parametrize("kind", ["recurrent", "hybrid", "embedding"])
def test_a_model_that_cannot_guess_is_refused(request: pytest.FixtureRequest, tiny_llama: Path, kind: str) -> None:
    with pytest.raises(InvalidRequest, match="small cannot guess for tiny-llama"):
        loaded(with_draft(tiny_llama, request.getfixturevalue(f"tiny_{kind}")))


def test_a_draft_whose_file_is_no_model_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"no model")
    with pytest.raises(ModelFailed, match="the draft model small cannot be loaded"):
        loaded(with_draft(tiny_llama, path))


def test_where_nothing_is_guessed_it_is_left_out_and_that_is_said(tiny_llama: Path, tiny_recurrent: Path) -> None:
    for command in (with_draft(tiny_recurrent, tiny_llama), with_draft(tiny_llama, tiny_llama, speculation="off")):
        found, report = loaded(command)
        assert found.draft is None
        assert "the draft model small is not used" in report.notes[0]


def test_a_worker_answers_the_same_with_a_draft_and_without(tiny_llama: Path) -> None:
    async def answers(command: Load) -> list[str]:
        async with started() as worker:
            await worker.load(command)
            requests = [
                GenerateRequest(n, prompt=f"{n} once upon a time", sampling=GREEDY, max_tokens=80) for n in range(1, 5)
            ]
            found = await asyncio.gather(*(collect(worker, request) for request in requests))
            return [answer.text for answer in found]

    assert run(answers(with_draft(tiny_llama, tiny_llama))) == run(answers(load_command(tiny_llama)))
