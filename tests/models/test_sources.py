"""Reading what a pull is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import UsageError
from shimmy.models.sources import DEFAULT_MODEL, KNOWN_MODELS, FileSource, PackageSource, parse_source, safe_name


@pytest.mark.parametrize("text", [None, "default", "smollm2-135m-instruct", "SmolLM2-135M-Instruct"])
def test_the_default_model_is_meant_by_no_name_by_default_and_by_its_own(text: str | None) -> None:
    wanted = parse_source(text)
    assert wanted.name == "smollm2-135m-instruct"
    assert wanted.source == DEFAULT_MODEL.source


def test_every_known_model_has_a_checksum_and_a_safe_name() -> None:
    for name, model in KNOWN_MODELS.items():
        assert safe_name(name) == name
        assert re.fullmatch("[0-9a-f]{64}", model.source.sha256 or "")


def test_several_packages_are_one_source() -> None:
    wanted = parse_source("pypi:Some_Model==1.0, pypi:b==2")
    assert isinstance(wanted.source, PackageSource)
    assert [package.requirement for package in wanted.source.packages] == ["Some_Model==1.0", "b==2"]
    assert wanted.name == "some_model"
    assert parse_source(wanted.source.text).source == wanted.source


def test_a_path_is_a_file_with_its_own_name(tmp_path: Path) -> None:
    wanted = parse_source(f"{tmp_path}/My Model.Q4_1.GGUF")
    assert wanted.source == FileSource(tmp_path / "My Model.Q4_1.GGUF")
    assert wanted.name == "my-model.q4_1"


@pytest.mark.parametrize(
    "text",
    [
        "pypi:",
        "pypi:a",
        "pypi:a==",
        "pypi:-r==1",
        "pypi:a==1 --index-url=x",
        "pypi:a==1;x",
        "pypi:../a==1",
        "pypi:a==1,,",
    ],
)
def test_what_is_no_package_of_one_version_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"pypi:NAME==VERSION"):
        parse_source(text)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(UsageError, match="did you mean smollm2-135m-instruct"):
        parse_source("smollm2-135m")
    with pytest.raises(UsageError, match="give one of smollm2-135m-instruct, gemma-3-270m"):
        parse_source("zzz")


@pytest.mark.parametrize("name", ["../x", "a/b", "A", "", "default", ".hidden", "x.gguf"])
def test_a_name_that_is_not_safe_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        parse_source(None, name=name)


def test_a_checksum_has_64_hexadecimal_digits() -> None:
    assert parse_source(None, sha256="A" * 64).source.sha256 == "a" * 64
    with pytest.raises(UsageError, match="--sha256"):
        parse_source(None, sha256="abc")


@given(st.text() | st.from_regex(r"[a-z]*(-0000[0-9]-of-00002|\.gguf|[-._ ])*", fullmatch=True))
def test_a_safe_name_is_safe_and_stays_as_it_is(text: str) -> None:
    name = safe_name(text)
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", name)
    assert name != "default"
    assert safe_name(name) == name
