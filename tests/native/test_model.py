"""Loading, facts, and the tokenizer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shimmy.errors import Cancelled, InvalidRequest, ModelFailed
from shimmy.models.metadata import read_metadata
from shimmy.native.ffi import build_facts
from shimmy.native.model import Model
from shimmy.types import ModelParams
from tests.tiny.models import write_llama

# Every kind of text: special tokens in it, unfinished ones, control characters, all of Unicode but surrogates.
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=20), st.sampled_from(["<s>", "</s>", "<|im_start|>", "<|im_", "\0", "\r\n", " ", "é", "🙂"])
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("name", ["llama", "swa", "moe", "recurrent", "hybrid", "embedding"])
def test_the_facts_are_those_of_the_file(request: pytest.FixtureRequest, name: str) -> None:
    path: Path = request.getfixturevalue(f"tiny_{name}")
    wanted = read_metadata(path)
    model = Model(path, ModelParams())
    facts = model.facts
    model.close()
    assert facts.n_vocab == wanted.vocabulary_size
    assert facts.n_ctx_train == wanted.context_length
    assert facts.parameter_count == wanted.parameter_count
    assert facts.n_swa == (wanted.sliding_window or 0)
    assert facts.is_recurrent == wanted.is_recurrent
    assert facts.is_hybrid == wanted.is_hybrid
    assert facts.has_chat_template == (wanted.chat_template is not None)
    assert not facts.is_diffusion
    assert facts.n_embd == 64
    assert 0 < facts.size_bytes < path.stat().st_size


def test_special_tokens_are_inside_the_vocabulary_or_absent(llama: Model) -> None:
    special = llama.facts.special_tokens
    assert special["bos"] == 508
    assert special["eos"] == 509
    assert special["fim_pre"] is None


def test_progress_rises_to_one(tiny_llama: Path) -> None:
    seen: list[float] = []

    def progress(fraction: float) -> bool:
        seen.append(fraction)
        return True

    Model(tiny_llama, ModelParams(), progress).close()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 1


@pytest.mark.parametrize("after", [1, 2, 5])
def test_loading_stops_when_progress_says_so(tiny_llama: Path, after: int) -> None:
    calls = 0

    def progress(_: float) -> bool:
        nonlocal calls
        calls += 1
        return calls < after

    with pytest.raises(Cancelled):
        Model(tiny_llama, ModelParams(), progress)
    assert calls == after


@pytest.mark.parametrize("load_mode", ["auto", "read", "mmap"])
def test_every_way_of_reading_gives_the_same_model(tiny_llama: Path, load_mode: Any) -> None:
    model = Model(tiny_llama, ModelParams(load_mode=load_mode, use_extra_bufts=False, check_tensors=True))
    assert model.facts.n_vocab == 512
    model.close()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 64, b"no model at all " * 100])
def test_a_file_that_is_no_model_is_refused_with_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFailed) as raised:
        Model(path, ModelParams())
    assert raised.value.message
    assert "\n" not in raised.value.message


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match=r"absent\.gguf"):
        Model(tmp_path / "absent.gguf", ModelParams())
    with pytest.raises(ModelFailed):
        Model(tmp_path, ModelParams())


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_refused(tiny_llama: Path, tmp_path: Path, share: float) -> None:
    data = tiny_llama.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelFailed):
        Model(path, ModelParams())


def test_a_failed_load_s_reason_is_not_told_of_the_next(tiny_llama: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        with pytest.raises(ModelFailed, match=name) as raised:
            Model(tmp_path / name, ModelParams())
    assert "first" not in raised.value.message
    Model(tiny_llama, ModelParams()).close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are Unicode")
def test_a_path_that_is_no_utf_8_can_be_loaded(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/t\xe9l\xff.gguf"))
    Path(write_llama(tmp_path / "plain.gguf")).rename(path)
    model = Model(path, ModelParams())
    assert model.detokenize(model.tokenize("hello")) == b"hello"
    model.close()


@pytest.mark.parametrize(
    ("field", "value"), [("n_gpu_layers", 2**40), ("main_gpu", -(2**40)), ("tensor_split", (1.0,) * 10_000)]
)
def test_a_model_parameter_out_of_range_is_refused_by_name(tiny_llama: Path, field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=field) as raised:
        Model(tiny_llama, ModelParams(**{field: value}))
    assert raised.value.facts["param"] == field


def test_a_closed_model_refuses_and_can_be_closed_again(tiny_llama: Path) -> None:
    model = Model(tiny_llama, ModelParams())
    model.close()
    model.close()
    for use in (lambda: model.tokenize("a"), lambda: model.detokenize([1]), lambda: model.piece(1)):
        with pytest.raises(InvalidRequest):
            use()


@settings(max_examples=200)
@given(text=TEXTS)
def test_text_survives_tokens(llama: Model, text: str) -> None:
    tokens = llama.tokenize(text, add_special=False, parse_special=False)
    assert all(0 <= token < llama.facts.n_vocab for token in tokens)
    assert llama.detokenize(tokens).decode() == text
    assert b"".join(map(llama.piece, tokens)).decode() == text


@settings(max_examples=100)
@given(text=TEXTS)
def test_special_tokens_are_recognised_only_when_asked(llama: Model, text: str) -> None:
    special = set(range(508, 512))
    assert not special & set(llama.tokenize(text, add_special=False, parse_special=False))
    parsed = llama.tokenize(text, add_special=False, parse_special=True)
    assert llama.detokenize(parsed, special=True).decode() == text
    assert llama.tokenize(text)[0] == llama.facts.special_tokens["bos"]


def test_a_text_longer_than_the_first_guess_is_tokenized_whole(llama: Model) -> None:
    text = "🙂\x01" * 3000
    assert llama.detokenize(llama.tokenize(text, add_special=False)).decode() == text
    assert llama.detokenize([], special=True) == b""
    assert llama.tokenize("", add_special=False) == []


def test_a_token_s_bytes_may_be_part_of_a_character(llama: Model) -> None:
    tokens = llama.tokenize("🙂", add_special=False)
    assert [llama.detokenize([token]) for token in tokens] == [bytes([byte]) for byte in "🙂".encode()]


@given(text=st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3))
def test_a_lone_surrogate_is_refused(llama: Model, text: str) -> None:
    with pytest.raises(InvalidRequest, match="Unicode") as raised:
        llama.tokenize("before " + text)
    assert raised.value.facts["param"] == "prompt"


@pytest.mark.parametrize("token", [-1, 512, 2**31 - 1, -(2**31), 2**31, 2**64])
def test_a_token_outside_the_vocabulary_is_refused(llama: Model, token: int) -> None:
    with pytest.raises(InvalidRequest):
        llama.detokenize([1, token])
    with pytest.raises(InvalidRequest):
        llama.piece(token)


def test_build_facts_name_the_back_end_and_a_device() -> None:
    facts = json.loads(build_facts())
    assert facts["backend"]
    assert facts["llama_cpp"]
    assert {device["type"] for device in facts["devices"]} <= {"cpu", "gpu", "igpu", "accelerator"}
    assert any(device["type"] == "cpu" for device in facts["devices"])


def test_a_model_is_shared_by_threads(
    llama: Model, run_in_threads: Callable[[Callable[[], object]], list[object]]
) -> None:
    text = "the cat sat on the mat " * 50
    alone = llama.tokenize(text)
    assert run_in_threads(lambda: [llama.tokenize(text) for _ in range(20)]) == [[alone] * 20] * 4
