"""The options of loading: what they change, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import Shimmy, said
from tests.tiny.adapters import random_pairs, write_adapter

GREEDY = ("--prompt", "once upon a time", "--temperature", "0", "--max-tokens", "12", "--raw")


@pytest.fixture
def adapter(tiny_llama: Path, tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "a.gguf", random_pairs(tiny_llama, ["blk.0.attn_q.weight", "blk.1.ffn_up.weight"]))


def test_an_adapter_changes_the_answer_and_its_scale_how_much(shimmy: Shimmy, tiny_llama: Path, adapter: Path) -> None:
    plain, off, on = (
        shimmy("generate", tiny_llama, *GREEDY, *more).out
        for more in ((), ("--lora", f"{adapter}:0"), ("--lora", adapter))
    )
    assert plain == off != on


def test_a_probe_shows_adapters_and_what_lies_where(shimmy: Shimmy, tiny_llama: Path, adapter: Path) -> None:
    report = json.loads(shimmy("probe", tiny_llama, "--lora", adapter, "--device", "none", "--json").out)
    assert [(a["name"], a["rank"]) for a in report["adapters"]] == [("Tiny adapter", 4)]
    assert all(set(kind) == {"CPU"} for kind in report["placement"].values())
    text = shimmy("probe", tiny_llama, "--lora", adapter, "--type-k", "f32").out
    assert "adapter          Tiny adapter: rank 4, alpha 8" in text
    assert "weights          CPU " in text


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--lora", "none.gguf"), 1, "none.gguf cannot be used: there is no such file"),
        (("--lora", "none.gguf:x:nan"), 2, "lora is adapters as FILE or FILE:SCALE"),
        (("--device", "CUDA99"), 1, "there is no device 'CUDA99'"),
        (("--split-mode", "rows"), 2, "split_mode is one of layer, none, row, tensor"),
        (("--tensor-split", "0,x"), 2, "tensor_split is numbers from 0 on"),
        (("--main-gpu", "99"), 1, "main_gpu must be 0 or below the number of devices"),
        (("--yarn-beta-fast", "x"), 2, "yarn_beta_fast is a number from -1 "),
        (("--rope-freq-scale", "nan"), 2, "rope_freq_scale is a number from 0 "),
    ],
    ids=str,
)
def test_a_wrong_option_of_loading_is_one_line(
    shimmy: Shimmy, tiny_llama: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    assert message in said(shimmy("generate", tiny_llama, *GREEDY, *options), code)
