"""A model's own table of the configuration file: what may stand in it, what it comes before, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.config import Config, load_config
from shimmy.errors import UsageError
from shimmy.model_settings import MODEL_SETTINGS
from shimmy.setting import AdapterFile
from shimmy.settings import BY_NAME
from shimmy.types import SamplingParams


def config_of(tmp_path: Path, text: str, flags: dict[str, object] | None = None, **environ: str) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load_config({"--config": str(file), **(flags or {})}, environ)


def test_a_table_comes_before_the_settings_of_all_models(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'ctx = 1000\nbatch = 64\n[model."One"]\nctx = 2000\n')
    own, _, values = config.for_model(["one"])
    assert (own.ctx, own.batch, config.ctx) == (2000, 64, 1000)
    assert values == {"ctx": 2000}
    assert config.for_model(["two"])[0] is config


def test_flags_and_variables_come_before_a_table_and_options_before_all(tmp_path: Path) -> None:
    text = "[model.one]\nctx = 2000\nparallel = 2\nthreads = 1\n"
    config = config_of(tmp_path, text, {"--ctx": "10"}, SHIMMY_PARALLEL="3")
    own, _, _ = config.for_model(["one"])
    assert (own.ctx, own.parallel, own.threads) == (10, 3, 1)
    assert config.for_model(["one"], {"ctx": 5})[0].ctx == 5


def test_the_first_of_a_models_names_comes_before_the_others(tmp_path: Path) -> None:
    config = config_of(tmp_path, "[model.one]\nctx = 1\n[model.short]\nctx = 2\nbatch = 3\n")
    own, _, _ = config.for_model(["ONE", "Short"])
    assert (own.ctx, own.batch) == (1, 3)


def test_what_only_a_model_has(tmp_path: Path) -> None:
    text = """[model.one]
    pin = true
    keep_alive = "1h"
    system = "Be brief.\\nBe kind."
    stop = ["END"]
    max_tokens = 9
    temperature = 0
    top_k = 3
    lora = ["a.gguf:0.5"]
    """
    config, own, _ = config_of(tmp_path, text).for_model(["one"])
    assert config.keep_alive == 3600
    assert config.lora == (AdapterFile(tmp_path / "a.gguf", 0.5),)
    assert (own.pin, own.system, own.stop, own.max_tokens) == (True, "Be brief.\nBe kind.", ("END",), 9)
    assert own.sampling == {"temperature": 0.0, "top_k": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = 1", "sets 'model', which is a table for each model"),
        ("[model]\nctx = 5", "sets model.ctx: write a table for each model"),
        ("[model.one]\ncontext = 5", "sets 'context', which is no setting of a model; there are: ctx, threads"),
        ("[model.one]\nport = 5", "sets 'port', which is no setting of a model"),
        ("[model.one]\nctx = -5", 'ctx = -5 of [model."one"] in '),
        ("[model.one]\ntemperature = -1", "temperature is a number from 0"),
        ("[model.one]\ntemperature = true", "temperature is a number from 0"),
        ("[model.one]\nsystem = ''", "system is a text that is not empty"),
        ("[model.one]\nstop = ['']", "stop is a text, or a list of up to 16"),
        ("[model.one]\nkeep_alive = 'soon'", "keep_alive is a time: seconds, 5m or 1h30m"),
        ("[model.one]\nflash_attn = 'off'\ntype_v = 'q8_0'", '[model."one"] in '),
        ("[model.one]\nctx = 5\n[model.ONE]\nctx = 6", "there is another table of that name"),
        ("[model.default]\nctx = 5", "name a model"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        config_of(tmp_path, text)
    assert said in caught.value.message
    assert str(tmp_path / "config.toml") in caught.value.message


def test_every_setting_of_a_model_is_one_of_the_server_or_of_a_request() -> None:
    requests = {*SamplingParams.__struct_fields__, "pin", "system", "stop", "max_tokens"}
    assert {name for name in MODEL_SETTINGS if name not in BY_NAME} <= requests
    for name in set(MODEL_SETTINGS) - set(BY_NAME):
        assert name not in Config._fields
