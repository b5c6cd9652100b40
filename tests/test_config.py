"""Configuration: precedence, origins, and one-line errors."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.config import Config, load_config
from shimmy.errors import UsageError
from shimmy.setting import ALL_LAYERS, AdapterFile, Setting
from shimmy.settings import SETTINGS


def load(flags: Mapping[str, object], environ: Mapping[str, str]) -> Config:
    """The configuration where the user has no file."""
    return load_config(flags, {"SHIMMY_CONFIG": os.devnull, **environ})


def config_of(tmp_path: Path, text: str, flags: dict[str, object] | None = None, **environ: str) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load_config({"--config": str(file), **(flags or {})}, environ)


def test_flags_come_before_variables_before_the_file_before_defaults(tmp_path: Path) -> None:
    text = "ctx = 1\nubatch = 2\nthreads = 3\n"
    config = config_of(tmp_path, text, {"--ctx": "10"}, SHIMMY_CTX="11", SHIMMY_UBATCH="12")
    assert (config.ctx, config.ubatch, config.threads, config.batch) == (10, 12, 3, 2048)


def test_each_value_knows_where_it_came_from(tmp_path: Path) -> None:
    config = config_of(tmp_path, "threads = 3", {"--ctx": "10"}, SHIMMY_UBATCH="12")
    assert config.origin("ctx") == "flag --ctx"
    assert config.origin("ubatch") == "variable SHIMMY_UBATCH"
    assert config.origin("threads") == f"file {tmp_path / 'config.toml'}"
    assert config.origin("batch") == "default"


def test_flags_that_were_not_given_are_not_heard() -> None:
    config = load({"--ctx": None, "--verbose": False, "--json": True}, {"SHIMMY_CTX": "7", "SHIMMY_VERBOSE": "on"})
    assert config.ctx == 7
    assert config.verbose


def test_a_setting_may_have_a_second_variable_which_the_first_comes_before() -> None:
    one, both = {"SHIMMY_API_KEY": "a"}, {"SHIMMY_API_KEY": "a", "SHIMMY_API_KEYS": "b,c"}
    assert (load({}, one).api_keys, load({}, one).origin("api_keys")) == (("a",), "variable SHIMMY_API_KEY")
    assert (load({}, both).api_keys, load({}, both).origin("api_keys")) == (("b", "c"), "variable SHIMMY_API_KEYS")


def test_an_empty_variable_is_not_set() -> None:
    assert load({}, {"SHIMMY_CTX": "", "SHIMMY_BASE_GGUF": ""}).origin("ctx") == "default"


@pytest.mark.parametrize("text", ["all", "ALL", "-1"])
def test_gpu_layers_are_a_number_or_all(text: str) -> None:
    if text == "-1":
        with pytest.raises(UsageError, match="--gpu-layers -1: gpu_layers is 'all' or a whole number from 0 to 10000"):
            load({"--gpu-layers": text}, {})
    else:
        assert load({"--gpu-layers": text}, {}).gpu_layers == ALL_LAYERS


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        ({"--threads": "-1"}, {}, "--threads -1: threads is a whole number from 0 to 512"),
        ({}, {"SHIMMY_BATCH": "0"}, "SHIMMY_BATCH=0: batch is a whole number from 1 to 65536"),
        ({"--ctx": "many"}, {}, "--ctx many: ctx is a whole number from 0"),
        ({}, {"SHIMMY_CTX": "1e3"}, "SHIMMY_CTX=1e3: ctx is a whole number"),
        ({}, {"SHIMMY_FLASH_ATTN": "perhaps"}, "flash_attn is one of auto, on, off"),
        ({}, {"SHIMMY_DEVICE_SAMPLING": "perhaps"}, "device_sampling is one of auto, on, off"),
        ({}, {"SHIMMY_LOAD_TIMEOUT_S": "nan"}, "load_timeout_s is a number"),
        ({}, {"SHIMMY_SWA_FULL": "2"}, "swa_full is on or off"),
        ({"--flash-attn": "off", "--type-v": "q8_0"}, {}, "needs flash attention"),
    ],
)
def test_a_wrong_value_names_its_place_and_what_is_allowed(
    flags: dict[str, object], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(flags, environ)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ctx = [1]", "ctx = [1] in"),
        ("ctx = 1.5", "ctx is a whole number"),
        ("ctx = true", "ctx is a whole number"),
        ("contex = 1", "'contex', which is no setting"),
        ("ctx = ", "is not valid TOML"),
        ("x = " + "[" * 5000, "is not valid TOML"),
    ],
)
def test_a_wrong_file_names_itself_and_the_fault(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        config_of(tmp_path, text)
    assert said in caught.value.message
    assert "config.toml" in caught.value.message


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_config({"--config": str(tmp_path / "none.toml")}, {})


def test_a_named_file_that_cannot_be_looked_at_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_config({"--config": str(tmp_path / ("x" * 300))}, {})


def test_an_adapter_that_cannot_be_looked_at_has_its_scale(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 300)
    assert load_config({"--lora": [f"{file}:0.5"]}, {"SHIMMY_CONFIG": os.devnull}).lora[0].scale == 0.5


def test_a_file_that_is_not_text_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not valid TOML"):
        load_config({}, {"SHIMMY_CONFIG": str(file)})


def test_toml_words_and_booleans_mean_the_same(tmp_path: Path) -> None:
    assert config_of(tmp_path, "flash_attn = true\nswa_full = 'on'").flash_attn == "on"
    assert config_of(tmp_path, "swa_full = 'on'").swa_full


def test_relative_paths_of_a_file_are_meant_from_the_file(tmp_path: Path) -> None:
    config = config_of(tmp_path, "base_gguf = 'm/a.gguf'\nmodel_paths = ['b', '/c']")
    assert config.base_gguf == tmp_path / "m/a.gguf"
    assert config.model_paths == (tmp_path / "b", Path("/c"))


def test_relative_paths_of_variables_are_meant_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load({}, {"SHIMMY_MODEL_PATHS": "a::b", "SHIMMY_STORE": "s"})
    assert config.model_paths == (tmp_path / "a", tmp_path / "b")
    assert config.store_dir == tmp_path / "s"


def test_a_home_is_not_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "")
    assert load({}, {"SHIMMY_STORE": str(tmp_path)}).store_dir == tmp_path


def test_a_working_folder_that_was_deleted_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load({}, {"SHIMMY_STORE": str(tmp_path)}).store_dir == tmp_path
    with pytest.raises(UsageError, match="working folder"):
        load({}, {"SHIMMY_BASE_GGUF": "relative.gguf"})


def test_every_setting_has_a_field_and_a_default_that_it_accepts() -> None:
    assert {setting.name for setting in SETTINGS} <= set(Config._fields)
    for setting in SETTINGS:
        if isinstance(setting.default, str | bool) or (
            isinstance(setting.default, int | float) and setting.default != ALL_LAYERS
        ):
            assert setting.parse(setting.default) == setting.default


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")), st.sampled_from(SETTINGS))
def test_any_text_is_a_value_or_a_usage_error(text: str, setting: Setting) -> None:
    environ = {setting.variable: text}
    try:
        value = getattr(load({}, environ), setting.name)
    except UsageError:
        return
    if isinstance(value, int | float) and value != ALL_LAYERS:
        assert setting.low <= value <= setting.high
        assert math.isfinite(value) or setting.high == math.inf


def test_adapters_are_files_with_a_scale(tmp_path: Path) -> None:
    """A number behind the last colon is the scale, unless there is a file of that name."""
    odd = tmp_path / "odd:3"
    odd.touch()
    given = ["a.gguf", "b.gguf:0.5", "/c.gguf:-1e-3", str(odd), f"{odd}:2", "d:e"]
    here = Path.cwd()
    wanted = (
        AdapterFile(here / "a.gguf", 1.0),
        AdapterFile(here / "b.gguf", 0.5),
        AdapterFile(Path("/c.gguf"), -1e-3),
        AdapterFile(odd, 1.0),
        AdapterFile(odd, 2.0),
        AdapterFile(here / "d:e", 1.0),
    )
    assert load({"--lora": given}, {}).lora == wanted
    assert load({"--lora": []}, {"SHIMMY_LORA": ",".join(given)}).lora == wanted
    config = config_of(tmp_path, 'lora = ["a.gguf:2", "/b.gguf"]')
    assert config.lora == (AdapterFile(tmp_path / "a.gguf", 2.0), AdapterFile(Path("/b.gguf"), 1.0))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"--lora": ["a.gguf:nan"]}, "--lora a.gguf:nan: lora is adapters as FILE or FILE:SCALE"),
        ({"--lora": ["a.gguf:1e39"]}, "lora is adapters as FILE or FILE:SCALE"),
        ({"--lora": ["a.gguf", ":1"]}, "--lora a.gguf, :1: lora is adapters as FILE or FILE:SCALE"),
        ({"--device": " "}, "device is names, separated by commas"),
        ({"--device": "none,CUDA0"}, "device is either none or names of GPUs"),
        ({"--tensor-split": "1,x"}, "tensor_split is numbers from 0 on, separated by commas"),
        ({"--tensor-split": "-1"}, "tensor_split is numbers from 0 on"),
        ({"--tensor-split": "nan"}, "tensor_split is numbers from 0 on"),
        ({"--split-mode": "rows"}, "split_mode is one of layer, none, row, tensor"),
        ({"--rope-scaling": "ntk"}, "rope_scaling is one of model, none, linear, yarn, longrope"),
        ({"--rope-freq-scale": "inf"}, "rope_freq_scale is a number from 0 to 3.4e+38"),
        ({"--yarn-ext-factor": "-2"}, "yarn_ext_factor is a number from -1 to 3.4e+38"),
        ({"--yarn-orig-ctx": "0.5"}, "yarn_orig_ctx is a whole number"),
        ({"--n-cpu-moe": "-1"}, "n_cpu_moe is a whole number from 0 to 10000"),
        ({"--main-gpu": "-1"}, "main_gpu is a whole number from 0 to 1000"),
    ],
    ids=str,
)
def test_a_wrong_option_of_loading_is_told_in_one_line(flags: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        load(flags, {})
    assert message in raised.value.message
    assert "\n" not in raised.value.message


def test_lists_of_devices_and_shares_are_read_from_everywhere(tmp_path: Path) -> None:
    config = load({"--device": "CUDA0, CUDA1"}, {"SHIMMY_TENSOR_SPLIT": "3,1"})
    assert (config.device, config.tensor_split) == (("CUDA0", "CUDA1"), (3.0, 1.0))
    config = config_of(tmp_path, 'device = ["none"]\ntensor_split = [1, 2.5]\ncpu_moe = true')
    assert (config.device, config.tensor_split, config.cpu_moe) == (("none",), (1.0, 2.5), True)
