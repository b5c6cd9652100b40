"""Which file of a repository is meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import UsageError
from shimmy.models.hub_files import choose_files

NAMES = [
    "README.md",
    "Model-IQ4_XS.gguf",
    "Model-Q4_K.gguf",
    "Model-Q4_K_M.gguf",
    "Model-Q8_0.gguf",
    "Model-UD-Q2_K_XL.gguf",
    "Model-bf16-00001-of-00002.gguf",
    "Model-bf16-00002-of-00002.gguf",
    "mmproj-Model-f16.gguf",
    "Model-imatrix.gguf",
    "Q6_K/Model-00001-of-00003.gguf",
    "Q6_K/Model-00002-of-00003.gguf",
    "Q6_K/Model-00003-of-00003.gguf",
]


def chosen(wanted: str | None, names: list[str] = NAMES) -> tuple[str, ...]:
    return choose_files(names, wanted, "org/repo")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("Q4_K_M", "Model-Q4_K_M.gguf"),
        ("q4_k_m", "Model-Q4_K_M.gguf"),
        ("q4_k", "Model-Q4_K.gguf"),
        ("IQ4_XS", "Model-IQ4_XS.gguf"),
        ("Q2_K_XL", "Model-UD-Q2_K_XL.gguf"),
        ("ud-q2_k_xl", "Model-UD-Q2_K_XL.gguf"),
        ("Model-Q8_0.gguf", "Model-Q8_0.gguf"),
        ("model-q8_0.GGUF", "Model-Q8_0.gguf"),
        (None, "Model-Q4_K_M.gguf"),
    ],
)
def test_a_quantization_or_a_file_is_found_in_any_case(wanted: str | None, name: str) -> None:
    assert chosen(wanted) == (name,)


@pytest.mark.parametrize("wanted", ["BF16", "Model-bf16-00001-of-00002.gguf", "model-bf16-00002-of-00002.gguf"])
def test_a_model_in_parts_is_all_its_parts_by_whichever_it_is_named(wanted: str) -> None:
    assert chosen(wanted) == ("Model-bf16-00001-of-00002.gguf", "Model-bf16-00002-of-00002.gguf")


def test_a_quantization_may_be_the_name_of_a_folder() -> None:
    assert chosen("Q6_K")[0] == "Q6_K/Model-00001-of-00003.gguf"
    assert len(chosen("Q6_K")) == 3


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["b-Q8_0.gguf", "a-F16.gguf"], "b-Q8_0.gguf"),
        (["b-Q5_K_M.gguf", "a-F16.gguf"], "a-F16.gguf"),
        (["only-F16.gguf", "mmproj-Q4_K_M.gguf"], "only-F16.gguf"),
    ],
)
def test_without_a_wish_the_rule_decides(names: list[str], name: str) -> None:
    assert chosen(None, names) == (name,)


@pytest.mark.parametrize(
    ("wanted", "names", "said"),
    [
        ("Q5_K_M", NAMES, "org/repo has no Q5_K_M; it has Model-IQ4_XS.gguf, Model-Q4_K.gguf"),
        ("nothing.gguf", NAMES, "has no nothing.gguf"),
        (
            "Q8_0",
            ["a-Q8_0.gguf", "b-q8_0.gguf"],
            "several files with Q8_0; name one after a colon: a-Q8_0.gguf, b-q8_0",
        ),
        (None, ["a-Q8_0.gguf", "b-q8_0.gguf"], "several files with Q8_0"),
        ("x.gguf", ["a/x.gguf", "b/x.gguf"], "several files with x.gguf"),
        ("mmproj-Model-f16.gguf", NAMES, "is no model but belongs to one"),
        (None, ["model.safetensors", "mmproj.gguf"], "has no model in a .gguf file"),
        (None, [], "has no model in a .gguf file"),
        ("Q1", ["m-Q1-00001-of-00002.gguf"], "only some parts .* m-Q1-00002-of-00002.gguf is missing"),
    ],
)
def test_what_fits_none_or_several_is_refused_with_what_there_is(
    wanted: str | None, names: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        chosen(wanted, names)


def test_a_long_list_is_cut() -> None:
    names = [f"m{number:03}.gguf" for number in range(500)]
    with pytest.raises(UsageError, match="and 480 more"):
        chosen("Q4_0", names)


@given(
    names=st.lists(
        st.sampled_from(NAMES) | st.text(max_size=20) | st.text(max_size=8).map(lambda text: text + ".gguf")
    ),
    wanted=st.none() | st.text(max_size=10) | st.sampled_from(["Q4_K_M", "BF16", "Q6_K", "-", ".", "(", "x.gguf"]),
)
def test_whatever_is_listed_the_choice_is_of_it_or_refused(names: list[str], wanted: str | None) -> None:
    try:
        files = chosen(wanted, names)
    except UsageError:
        return
    assert set(files) <= set(names)
    assert all("mmproj" not in name.lower() for name in files)
