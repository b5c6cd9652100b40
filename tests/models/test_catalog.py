"""Names: readable, unique, and what a user's words lead to."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.errors import InvalidModelFile, ModelNotFound
from shimmy.models.catalog import Catalog
from shimmy.models.record import Record
from tests.models.homes import config_of
from tests.tiny.models import write_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny.gguf").read_bytes()


def catalog_of(home: Path, data: bytes, *names: str, **environ: str) -> Catalog:
    """A catalog over files of these names below ``home``, all the same model."""
    for name in names:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Catalog(config_of(home, **environ))


def ids(catalog: Catalog) -> list[str]:
    return [entry.id for entry in catalog.entries]


def test_ids_are_made_of_file_names(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "models/My Model (v2).Q4_1.gguf", "models/ß.gguf", "models/default.gguf")
    assert ids(catalog) == ["default-model", "model", "my-model-v2-.q4_1"]


def test_of_two_files_of_one_name_the_second_adds_its_quantization_then_a_number(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "store/a.gguf", "models/1/a.gguf", "models/2/A.gguf", "models/3/a.gguf")
    assert {entry.id: str(entry.path.relative_to(home)) for entry in catalog.entries} == {
        "a": "store/a.gguf",
        "a-f16": "models/1/a.gguf",
        "a-2": "models/2/A.gguf",
        "a-3": "models/3/a.gguf",
    }


def test_a_file_keeps_its_own_name_from_one_that_has_to_choose(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "store/a.gguf", "models/1/a.gguf", "models/2/a-f16.gguf")
    assert catalog.resolve("a-f16").path == home / "models/2/a-f16.gguf"
    assert catalog.resolve("a-2").path == home / "models/1/a.gguf"


def test_a_model_is_found_by_id_in_any_case_and_by_an_unambiguous_beginning(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "models/alpha-1.gguf", "models/alpha.gguf", "models/beta-7b.gguf")
    assert catalog.resolve("ALPHA").id == "alpha"
    assert catalog.resolve("alpha-").id == "alpha"
    assert catalog.resolve("Beta").id == "beta-7b"
    assert catalog.resolve("beta-7b.gguf").id == "beta-7b"


def test_a_name_without_a_safe_letter_means_nothing_but_its_own_file(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "models/model-7b.gguf")
    with pytest.raises(ModelNotFound):
        catalog.resolve("日本")


def test_an_ambiguous_beginning_names_the_models_it_could_mean(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "models/alpha-1.gguf", "models/alpha-2.gguf")
    with pytest.raises(ModelNotFound, match="did you mean alpha-1, alpha-2"):
        catalog.resolve("alpha")


def test_an_unknown_name_names_similar_ones(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "models/llama-3.2.gguf", "models/zephyr.gguf")
    with pytest.raises(ModelNotFound, match=r"no model named 'lama-3\.2'; did you mean llama-3\.2\?"):
        catalog.resolve("lama-3.2")
    with pytest.raises(ModelNotFound, match="'shimmy list' shows what there is"):
        catalog.resolve("qqqqqq")


def test_a_path_is_read_without_a_scan(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "elsewhere/x.gguf", "models/bad.gguf")
    for name in (str(home / "elsewhere/x.gguf"), "elsewhere/x.gguf", "~/elsewhere/x.gguf"):
        entry = catalog.resolve(name)
        assert (entry.id, entry.path) == ("x", home / "elsewhere/x.gguf")
    assert not (home / "cache").exists()


@pytest.mark.parametrize("name", ["./none.gguf", "/none/x.gguf", "models/", "models/text.gguf"])
def test_a_path_without_a_model_says_so(home: Path, model: bytes, name: str) -> None:
    catalog = catalog_of(home, model, "models/a.gguf")
    (home / "models/text.gguf").write_text("text")
    with pytest.raises(InvalidModelFile):
        catalog.resolve(name)


def test_the_default_is_the_base_model_else_the_pulled_one_else_the_first(home: Path, model: bytes) -> None:
    names = ["models/b.gguf", "models/a.gguf"]
    assert catalog_of(home, model, *names).resolve(None).id == "a"
    names.append("store/smollm2-135m-instruct.gguf")
    assert catalog_of(home, model, *names).resolve("default").id == "smollm2-135m-instruct"
    assert catalog_of(home, model, *names, SHIMMY_BASE_GGUF="models/b.gguf").resolve("").id == "b"


def test_a_base_model_that_is_none_is_an_error_and_not_another_model(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "models/a.gguf", SHIMMY_BASE_GGUF="none.gguf")
    with pytest.raises(InvalidModelFile, match=r"none\.gguf: "):
        catalog.resolve(None)
    assert catalog.resolve("a").id == "a"


def test_without_models_the_default_is_not_found(home: Path) -> None:
    with pytest.raises(ModelNotFound):
        catalog_of(home, b"").resolve(None)


def test_info_says_what_the_file_holds_without_control_characters(home: Path) -> None:
    write_llama(home / "x.gguf", n_ctx=256)
    data = (home / "x.gguf").read_bytes().replace(b"Tiny llama", b"Tiny\x1bllama")
    info = catalog_of(home, data, "models/x.gguf").resolve("x").info
    assert info.name == "Tiny llama"
    assert (info.architecture, info.quantization, info.context_length) == ("llama", "F16", 256)
    assert info.size_bytes == len(data)
    assert "chat" in info.capabilities


def test_info_is_what_was_there_when_the_folders_were_looked_at(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "store/x.gguf")
    file, record = home / "store/x.gguf", home / "store/x.json"
    record.write_text(Record("hf:org/repo:x", ("0" * 64,)).to_json())
    modified = int(file.stat().st_mtime)
    catalog.scan()
    file.unlink()
    record.unlink()
    entry = catalog.resolve("x")
    assert (entry.info.pulled_from, entry.model.modified) == ("hf:org/repo:x", modified)


def test_a_path_that_cannot_be_looked_at_is_no_model_file(home: Path, model: bytes) -> None:
    catalog = catalog_of(home, model, "a.gguf")
    with pytest.raises((InvalidModelFile, ModelNotFound)):
        catalog.resolve("/" + "x" * 300 + ".gguf")
