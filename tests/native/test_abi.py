"""The C ABI itself: its version, its strings, and that NULL is refused rather than followed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from shimmy.native import ffi as binding
from shimmy.native.context import PARTIAL_STATE, TOKEN_EOG, TOKEN_NO_LOGITS, Context, Run
from shimmy.native.ffi import build_facts, ffi, library
from shimmy.native.model import Model

HEADER = Path(__file__).resolve().parents[2] / "native" / "shimmy.h"
INVALID = 1


def defined(name: str) -> int:
    """The value of a macro in shimmy.h."""
    found = re.search(rf"^#define {name} (\d+)", HEADER.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return int(found[1])


def test_header_library_and_python_have_the_same_version() -> None:
    assert defined("SHIMMY_ABI_VERSION") == library().shimmy_abi_version() == binding.ABI_VERSION


def test_flags_and_codes_are_those_of_the_header() -> None:
    assert defined("SHIMMY_TOKEN_EOG") == TOKEN_EOG
    assert defined("SHIMMY_TOKEN_NO_LOGITS") == TOKEN_NO_LOGITS
    assert PARTIAL_STATE == 1
    codes = re.findall(r"^#define SHIMMY_E_\w+ (\d+)", HEADER.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(code) for code in codes} - set(binding._ERRORS) == {defined("SHIMMY_E_INTERNAL")}
    assert ffi.sizeof(ffi.typeof("shimmy_sample").fields[4][1].type) == 4 * defined("SHIMMY_MAX_LOGPROBS")


NULL_CALLS: dict[str, Callable[[], int]] = {
    "build_facts": lambda: library().shimmy_build_facts(ffi.NULL),
    "model_load": lambda: library().shimmy_model_load(ffi.NULL, ffi.NULL, ffi.NULL, ffi.NULL, ffi.NULL),
    "model_outline": lambda: library().shimmy_model_outline(ffi.NULL, ffi.NULL, ffi.NULL, 0, ffi.NULL),
    "model_facts": lambda: library().shimmy_model_facts(ffi.NULL, ffi.NULL),
    "model_tokenize": lambda: library().shimmy_model_tokenize(ffi.NULL, ffi.NULL, 0, True, True, ffi.NULL, 0, ffi.NULL),
    "model_detokenize": lambda: library().shimmy_model_detokenize(ffi.NULL, ffi.NULL, 0, True, ffi.NULL, 0, ffi.NULL),
    "model_piece": lambda: library().shimmy_model_piece(ffi.NULL, 0, ffi.NULL, 0, ffi.NULL),
    "model_check_draft": lambda: library().shimmy_model_check_draft(ffi.NULL, ffi.NULL),
    "sampler_new": lambda: library().shimmy_sampler_new(ffi.NULL, ffi.NULL, ffi.NULL, 0, ffi.NULL),
    "sampler_sample": lambda: library().shimmy_sampler_sample(ffi.NULL, ffi.NULL, 0, ffi.NULL),
    "sampler_look_up": lambda: library().shimmy_sampler_look_up(ffi.NULL, ffi.NULL, 0),
    "sampler_limit_reasoning": lambda: library().shimmy_sampler_limit_reasoning(
        ffi.NULL, ffi.NULL, ffi.NULL, ffi.NULL, 0, False, 0, ffi.NULL, 0
    ),
    "sampler_propose": lambda: library().shimmy_sampler_propose(ffi.NULL, 1, ffi.NULL, ffi.NULL, ffi.NULL),
    "sampler_survivors": lambda: library().shimmy_sampler_survivors(
        ffi.NULL, ffi.NULL, 0, ffi.NULL, ffi.NULL, ffi.NULL
    ),
    "grammar_new": lambda: library().shimmy_grammar_new(ffi.NULL, ffi.NULL, ffi.NULL),
    "schema_to_grammar": lambda: library().shimmy_schema_to_grammar(ffi.NULL, 0, ffi.NULL),
    "sampler_set_grammar": lambda: library().shimmy_sampler_set_grammar(ffi.NULL, ffi.NULL),
    "context_new": lambda: library().shimmy_context_new(ffi.NULL, ffi.NULL, ffi.NULL),
    "context_facts": lambda: library().shimmy_context_facts(ffi.NULL, ffi.NULL),
    "context_set_threads": lambda: library().shimmy_context_set_threads(ffi.NULL, 1, 1),
    "context_step": lambda: library().shimmy_context_step(ffi.NULL, ffi.NULL, ffi.NULL),
    "context_repeat": lambda: library().shimmy_context_repeat(ffi.NULL, ffi.NULL),
    "context_watch": lambda: library().shimmy_context_watch(ffi.NULL, 0.5),
    "context_stream": lambda: library().shimmy_context_stream(ffi.NULL, ffi.NULL, 1),
    "context_streamed": lambda: library().shimmy_context_streamed(ffi.NULL, ffi.NULL, ffi.NULL),
    "context_seq_remove": lambda: library().shimmy_context_seq_remove(ffi.NULL, 0, 0, -1),
    "context_seq_copy": lambda: library().shimmy_context_seq_copy(ffi.NULL, 0, 1, 0, -1),
    "context_seq_fork": lambda: library().shimmy_context_seq_fork(ffi.NULL, 0, 1, 1, ffi.NULL, 0),
    "context_seq_leave": lambda: library().shimmy_context_seq_leave(ffi.NULL, 0, ffi.NULL),
    "context_seq_range": lambda: library().shimmy_context_seq_range(ffi.NULL, 0, ffi.NULL, ffi.NULL),
    "context_clear": lambda: library().shimmy_context_clear(ffi.NULL),
    "context_state_size": lambda: library().shimmy_context_state_size(ffi.NULL, 0, 0, ffi.NULL),
    "context_state_get": lambda: library().shimmy_context_state_get(ffi.NULL, 0, 0, ffi.NULL, ffi.NULL),
    "context_state_set": lambda: library().shimmy_context_state_set(ffi.NULL, 0, 0, ffi.NULL, 0),
    "adapter_load": lambda: library().shimmy_adapter_load(ffi.NULL, ffi.NULL, ffi.NULL),
    "adapter_facts": lambda: library().shimmy_adapter_facts(ffi.NULL, ffi.NULL),
    "context_set_adapters": lambda: library().shimmy_context_set_adapters(ffi.NULL, ffi.NULL, ffi.NULL, 0),
    "embedder_new": lambda: library().shimmy_embedder_new(ffi.NULL, ffi.NULL, False, ffi.NULL),
    "embedder_facts": lambda: library().shimmy_embedder_facts(ffi.NULL, ffi.NULL),
    "embedder_step": lambda: library().shimmy_embedder_step(ffi.NULL, ffi.NULL),
    "embedder_read": lambda: library().shimmy_embedder_read(ffi.NULL, 0, 1, 1, False, ffi.NULL),
    "embedder_release": lambda: library().shimmy_embedder_release(ffi.NULL, 0),
    "embedder_clear": lambda: library().shimmy_embedder_clear(ffi.NULL),
    "chat_new": lambda: library().shimmy_chat_new(ffi.NULL, ffi.NULL, 1.0, ffi.NULL),
    "chat_apply": lambda: library().shimmy_chat_apply(ffi.NULL, ffi.NULL, ffi.NULL, ffi.NULL),
    "chat_parser_feed": lambda: library().shimmy_chat_parser_feed(ffi.NULL, ffi.NULL, 0, ffi.NULL, ffi.NULL),
    "chat_parser_finish": lambda: library().shimmy_chat_parser_finish(ffi.NULL, ffi.NULL),
    "sampler_open_answer": lambda: library().shimmy_sampler_open_answer(ffi.NULL, ffi.NULL, 0, ffi.NULL, 0),
}


@pytest.mark.parametrize("name", NULL_CALLS)
def test_null_is_refused(name: str) -> None:
    assert NULL_CALLS[name]() == INVALID
    assert ffi.string(library().shimmy_last_error())


def test_every_call_that_returns_a_status_is_tried_with_null() -> None:
    header = HEADER.read_text(encoding="utf-8")
    declared = set(re.findall(r"SHIMMY_API int32_t shimmy_(\w+)\(", header))
    assert declared - set(NULL_CALLS) == {"abi_version", "start", "share_cores"}


def test_null_can_be_freed() -> None:
    for name in ("string", "model", "sampler", "context", "embedder", "chat", "chat_parser"):
        getattr(library(), f"shimmy_{name}_free")(ffi.NULL)
    library().shimmy_context_interrupt(ffi.NULL, True)
    assert library().shimmy_context_logits(ffi.NULL, 0) == ffi.NULL
    library().shimmy_embedder_interrupt(ffi.NULL, True)
    assert library().shimmy_embedder_rows(ffi.NULL, 0) == ffi.NULL


def test_an_error_names_its_parameter_and_the_next_one_forgets_it(llama: Model) -> None:
    raw = ffi.new("shimmy_context_params *")
    library().shimmy_context_default_params(raw)
    raw.n_batch = 0
    assert library().shimmy_context_new(llama.handle, raw, ffi.new("shimmy_context **")) == INVALID
    assert ffi.string(library().shimmy_last_error_param()) == b"n_batch"
    assert library().shimmy_context_clear(ffi.NULL) == INVALID
    assert ffi.string(library().shimmy_last_error_param()) == b""


def test_threads_can_be_changed_within_their_range(llama: Model, make_context: Callable[..., Context]) -> None:
    context = make_context(llama)
    for wrong in (0, -1, 513):
        assert library().shimmy_context_set_threads(context._handle, wrong, 1) == INVALID
        assert library().shimmy_context_set_threads(context._handle, 1, wrong) == INVALID
    for n_threads in (2, 1, 3):
        assert library().shimmy_context_set_threads(context._handle, n_threads, n_threads) == 0
        context.step([Run(0, context.seq_range(0)[1] + 1, [1, 2, 3], None)])


def test_unknown_state_flags_and_small_buffers_are_refused(llama: Model, make_context: Callable[..., Context]) -> None:
    context = make_context(llama)
    context.step([Run(0, 0, [1, 2, 3], None)])
    size = ffi.new("size_t *")
    for flags in (-1, 2, 3, 2**31 - 1):
        assert library().shimmy_context_state_size(context._handle, 0, flags, size) == INVALID
    assert library().shimmy_context_state_size(context._handle, 0, 0, size) == 0
    data = ffi.new("uint8_t[]", size[0])
    size[0] -= 1
    assert library().shimmy_context_state_get(context._handle, 0, 0, data, size) == INVALID


def test_the_python_module_was_made_from_this_header() -> None:
    declared = set(re.findall(r"\bshimmy_\w+(?=\()", HEADER.read_text(encoding="utf-8")))
    assert {name for name in declared if hasattr(library(), name)} >= declared - {"shimmy_progress_fn"}


def test_the_library_was_built_for_the_threads_that_ggml_has() -> None:
    facts = msgspec.json.decode(build_facts())
    assert (facts["threads"] == "openmp") == ("OPENMP = 1" in facts["system_info"])
