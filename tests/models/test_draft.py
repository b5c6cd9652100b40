"""The configured draft model is found by its name or path, and what is wrong with it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.config import Config, load_config
from shimmy.errors import ModelFailed
from shimmy.models.draft import find_draft


def configured(*folders: Path, **flags: str) -> Config:
    given = {f"--{name.replace('_', '-')}": value for name, value in flags.items()}
    paths = ":".join(map(str, folders))
    return load_config(given, {"SHIMMY_CONFIG": "/dev/null", "SHIMMY_MODEL_PATHS": paths})


def test_it_is_found_by_path_and_by_name(tiny_llama: Path) -> None:
    by_path = find_draft(configured(draft_model=str(tiny_llama)))
    assert by_path is not None
    assert by_path.path == str(tiny_llama)
    assert by_path.name == "tiny-llama"
    assert by_path.kv_bytes_per_token
    assert find_draft(configured(tiny_llama, draft_model="tiny-llama")) == by_path


def test_none_and_no_speculation_are_no_draft(tiny_llama: Path) -> None:
    assert find_draft(configured()) is None
    assert find_draft(configured(draft_model="none")) is None
    assert find_draft(configured(draft_model=str(tiny_llama), speculation="off")) is None


def test_one_that_is_not_there_or_no_model_is_a_failure_of_the_load(tmp_path: Path) -> None:
    no_model = tmp_path / "no.gguf"
    no_model.write_bytes(b"no model")
    for name in ("nothing-of-this-name", str(no_model), str(tmp_path / "gone.gguf")):
        with pytest.raises(ModelFailed, match=r"^the draft model cannot be used: ") as caught:
            find_draft(configured(draft_model=name))
        assert type(caught.value) is ModelFailed
