"""Pulling from a hub and from a web server: whole models in the store, whatever the server does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf import GGUFWriter

from shimmy.errors import ChecksumMismatch, DownloadFailed, InvalidModelFile, UsageError
from shimmy.models.check import check_model_file
from shimmy.models.hub import _library
from shimmy.models.progress import Silent
from shimmy.models.record import read_record
from shimmy.models.sources import FileSource, Wanted, parse_source
from shimmy.models.store import PARTIAL, Pulled, Store
from shimmy.models.web import Web
from tests.models.serving import COMMIT, Answer, Handler, Server, serving
from tests.models.test_check import write_parts
from tests.models.test_store import InterruptedAt
from tests.tiny.models import write_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny.gguf").read_bytes()


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llama(tmp_path_factory.mktemp("model") / "other.gguf", seed=1).read_bytes()


@pytest.fixture
def server(model: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_library().constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with serving() as state:
        state.repo = {"README.md": b"", "Tiny-Q8_0.gguf": model, "mmproj-Tiny.gguf": b"GGUF"}
        yield state


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Store:
    return Store(tmp_path / "store", hub_endpoint=server.url, web=Web(timeout_s=20, pause=lambda _: None))


def pull(store: Store, text: str, *, name: str | None = None, sha256: str | None = None) -> Pulled:
    return store.pull(parse_source(text, name=name, sha256=sha256), Silent())


def names(store: Store) -> list[str]:
    return sorted(path.name for path in store.folder.glob("*") if path.name != PARTIAL)


def left_over(store: Store) -> list[str]:
    return sorted(path.name for path in (store.folder / PARTIAL).rglob("*") if path.is_file())


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def status(code: int, **headers: str) -> Answer:
    def answer(handler: Handler) -> bool:
        handler.answer(code, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return answer


def cut(handler: Handler) -> bool:
    data = handler.server_state.repo["Tiny-Q8_0.gguf"]
    handler.send_file(data, most=len(data) // 2)
    return True


def test_a_model_of_the_hub_is_pulled_whole_and_only_once(store: Store, server: Server, model: bytes) -> None:
    pulled = pull(store, "hf:org/repo")
    assert (pulled.name, pulled.fetched) == ("tiny-q8_0", True)
    assert pulled.path.read_bytes() == model
    assert read_record(store.folder, "tiny-q8_0") == ("hf:org/repo:Tiny-Q8_0.gguf", (sha256_of(model),))
    assert left_over(store) == []
    fetched = len(server.fetches())
    assert not pull(store, "hf:org/repo:q8_0").fetched
    assert len(server.fetches()) == fetched


def test_files_are_asked_for_at_the_commit_that_was_listed(store: Store, server: Server) -> None:
    pull(store, "hf:org/repo@refs/pr/1:Q8_0", name="mine")
    assert names(store) == ["mine.gguf", "mine.json"]
    assert [asked.path for asked in server.asked if "/api/" in asked.path] == [
        "/api/models/org/repo/revision/refs%2Fpr%2F1"
    ]
    assert {asked.path for asked in server.asked if "/api/" not in asked.path} == {
        f"/org/repo/resolve/{COMMIT}/Tiny-Q8_0.gguf"
    }


def test_a_token_opens_a_repository_and_leaves_for_no_other_host(
    store: Store, server: Server, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with serving() as cdn:
        cdn.files["/blob"] = model
        server.answers = [status(302, Location=f"{cdn.url}/blob?signature=x")]
        assert pull(store, "hf:org/repo").path.read_bytes() == model
        assert all("authorization" not in asked.headers for asked in cdn.asked)
    assert all(asked.headers["authorization"] == "Bearer hf_right" for asked in server.asked)


def test_an_interrupted_pull_goes_on_later(store: Store, server: Server, model: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.pull(parse_source("hf:org/repo"), InterruptedAt("downloading"))
    assert names(store) == []
    server.answers = [cut, *[status(404)]]
    with pytest.raises(DownloadFailed, match="check the address"):
        pull(store, "hf:org/repo")
    assert left_over(store) == ["tiny-q8_0.gguf", "tiny-q8_0.gguf.json"]
    server.asked.clear()
    assert pull(store, "hf:org/repo").path.read_bytes() == model
    (asked,) = server.fetches()
    assert asked.headers["range"] == f"bytes={len(model) // 2}-"
    assert left_over(store) == []


def test_a_model_that_changed_on_the_hub_replaces_the_one_pulled_before(
    store: Store, server: Server, other_model: bytes
) -> None:
    pull(store, "hf:org/repo")
    server.repo["Tiny-Q8_0.gguf"] = other_model
    pulled = pull(store, "hf:org/repo")
    assert pulled.fetched
    assert pulled.path.read_bytes() == other_model


def test_half_of_a_model_that_changed_meanwhile_is_not_gone_on_with(
    store: Store, server: Server, other_model: bytes
) -> None:
    server.answers = [cut, status(404)]
    with pytest.raises(DownloadFailed):
        pull(store, "hf:org/repo")
    server.repo["Tiny-Q8_0.gguf"] = other_model
    assert pull(store, "hf:org/repo").path.read_bytes() == other_model


def test_a_corrupt_body_is_refused_and_nothing_stays(store: Store, server: Server, other_model: bytes) -> None:
    def corrupt(handler: Handler) -> bool:
        handler.answer(200, {}, other_model)
        return True

    server.answers = [corrupt]
    with pytest.raises(ChecksumMismatch, match="nothing was kept"):
        pull(store, "hf:org/repo")
    assert names(store) == left_over(store) == []


def test_a_checksum_of_ones_own_is_compared_before_anything_is_fetched(store: Store, server: Server) -> None:
    with pytest.raises(ChecksumMismatch, match=r"Tiny-Q8_0\.gguf of org/repo has sha256"):
        pull(store, "hf:org/repo", sha256="0" * 64)
    assert server.fetches() == []


def test_too_large_a_model_is_refused_before_anything_is_fetched(
    store: Store, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(handler: Handler) -> None:
        handler.answer(302, {"X-Linked-Size": str(2**60), "X-Linked-Etag": '"1"', "Location": "http://x.invalid/"})

    monkeypatch.setattr(Handler, "do_HEAD", huge)
    with pytest.raises(DownloadFailed, match="make room, or set SHIMMY_STORE"):
        pull(store, "hf:org/repo")
    assert server.fetches() == []


def test_what_is_no_model_never_gets_the_name(store: Store, server: Server, model: bytes) -> None:
    server.repo["Tiny-Q8_0.gguf"] = model[:-100]
    with pytest.raises(InvalidModelFile, match=r"hf:org/repo:Tiny-Q8_0\.gguf: is cut short"):
        pull(store, "hf:org/repo")
    assert names(store) == left_over(store) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf:org/none", "there is no repository org/none, or it is private: check its name, or set HF_TOKEN"),
        ("hf:org/repo@v9", "org/repo has no revision v9"),
        ("hf:org/repo:Q4_K_M", r"org/repo has no Q4_K_M; it has Tiny-Q8_0\.gguf"),
        ("hf:org/repo:mmproj-tiny.gguf", "is no model but belongs to one"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(text: str, said: str, store: Store) -> None:
    with pytest.raises((DownloadFailed, UsageError), match=said) as caught:
        pull(store, text)
    assert "\n" not in caught.value.message
    assert not store.folder.exists()


def test_a_gated_repository_says_how_to_be_let_in(store: Store, server: Server) -> None:
    server.token = "hf_right"
    with pytest.raises(
        DownloadFailed, match=r"asks for consent: accept its terms at http://.*/org/repo, then set HF_TOKEN"
    ):
        pull(store, "hf:org/repo")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(401, X_Error_Message="Invalid credentials in Authorization header"), "does not know your token"),
        (status(401), "there is no repository org/repo, or it is private"),
        (status(403), "you may not read org/repo"),
        (status(404), "there is no repository org/repo"),
        (status(429), "asks to slow down"),
        (status(500), r"is in trouble \(500\): pull again later"),
        (status(418), "answers 418"),
        (status(200), "does not answer like a hub: check HF_ENDPOINT"),
    ],
)
def test_trouble_of_the_hub_is_one_line(answer: Answer, said: str, store: Store, server: Server) -> None:
    server.info = answer
    with pytest.raises(DownloadFailed, match=said) as caught:
        pull(store, "hf:org/repo")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b'{"id":"x"', b'{"id":"org/repo","siblings":[{}]}', b"\xff"])
def test_nonsense_of_the_hub_is_one_line(body: bytes, store: Store, server: Server) -> None:
    def nonsense(handler: Handler) -> bool:
        handler.answer(200, {"Content-Type": "application/json"}, body)
        return True

    server.info = nonsense
    with pytest.raises((DownloadFailed, UsageError)):
        pull(store, "hf:org/repo")


def test_a_model_in_parts_is_pulled_whole(store: Store, server: Server, tmp_path: Path) -> None:
    write_parts(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.glob("model-*.gguf")}
    server.repo = {f"BF16/{name}": data for name, data in files.items()}
    pulled = pull(store, "hf:org/repo:BF16")
    assert pulled.name == "model"
    assert pulled.path.name == "model-00001-of-00002.gguf"
    assert {name: (store.folder / name).read_bytes() for name in files} == files
    assert check_model_file(pulled.path).split_count == 2
    assert not pull(store, "hf:org/repo:bf16").fetched
    (store.folder / "model-00002-of-00002.gguf").write_bytes(b"damage")
    assert pull(store, "hf:org/repo:bf16").fetched
    assert (store.folder / "model-00002-of-00002.gguf").read_bytes() == files["model-00002-of-00002.gguf"]


@pytest.mark.parametrize("on_hub", [True, False])
def test_a_part_that_had_arrived_is_not_fetched_again(
    on_hub: bool, store: Store, server: Server, tmp_path: Path
) -> None:
    """The second of two parts breaks; the next pull goes on in it and leaves the first alone."""
    write_parts(tmp_path)
    files = {path.name: path.read_bytes() for path in sorted(tmp_path.glob("model-*.gguf"))}
    server.repo = files
    server.files = {f"/{name}": data for name, data in files.items()}
    text = "hf:org/repo" if on_hub else f"{server.url}/model-00001-of-00002.gguf"
    second = files["model-00002-of-00002.gguf"]

    def cut_second(handler: Handler) -> bool:
        handler.send_file(second, most=len(second) // 2)
        return True

    server.answers = [lambda _: False, cut_second, status(404)]
    with pytest.raises(DownloadFailed, match="check the address"):
        pull(store, text)
    server.asked.clear()
    assert pull(store, text).name == "model"
    (asked,) = server.fetches()
    assert asked.path.endswith("/model-00002-of-00002.gguf")
    assert asked.headers["range"] == f"bytes={len(second) // 2}-"
    assert {name: (store.folder / name).read_bytes() for name in files} == files
    assert left_over(store) == []


def test_parts_of_which_one_is_wrong_are_no_model(store: Store, server: Server, tmp_path: Path) -> None:
    write_parts(tmp_path)
    first = (tmp_path / "model-00001-of-00002.gguf").read_bytes()
    server.repo = {f"model-0000{number}-of-00002.gguf": first for number in (1, 2)}
    with pytest.raises(InvalidModelFile, match="part 2 of 2"):
        pull(store, "hf:org/repo")
    assert names(store) == left_over(store) == []


def test_one_checksum_does_not_fit_a_model_in_parts(store: Store, server: Server) -> None:
    server.repo = {f"model-0000{number}-of-00002.gguf": b"GGUF" for number in (1, 2)}
    with pytest.raises(UsageError, match="has 2 parts"):
        pull(store, "hf:org/repo", sha256="0" * 64)


def test_a_url_is_pulled_under_the_name_of_its_file(store: Store, server: Server, model: bytes) -> None:
    server.files["/models/My Model.Q8_0.gguf"] = model
    server.files["/models/My%20Model.Q8_0.gguf"] = model
    pulled = pull(store, f"{server.url}/models/My%20Model.Q8_0.gguf", sha256=sha256_of(model))
    assert (pulled.name, pulled.path.read_bytes()) == ("my-model.q8_0", model)
    assert not pull(store, f"{server.url}/models/My%20Model.Q8_0.gguf").fetched


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="Good Model.gguf"', "good-model"),
        ("attachment; filename*=UTF-8''good%20model.gguf", "good-model"),
        ('attachment; filename="../../../evil.gguf"', "evil"),
        ('attachment; filename="C:\\\\x\\\\evil.gguf"', "evil"),
        ('attachment; filename=".gguf"', "model"),
    ],
)
def test_the_servers_name_is_taken_where_the_url_has_none(
    disposition: str, name: str, store: Store, server: Server, tmp_path: Path
) -> None:
    server.files["/download"] = server.repo["Tiny-Q8_0.gguf"]
    server.headers["Content-Disposition"] = disposition
    assert pull(store, f"{server.url}/download?id=7").name == name
    assert names(store) == [f"{name}.gguf", f"{name}.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_file_without_a_name_needs_one(store: Store, server: Server, model: bytes) -> None:
    server.files["/download"] = model
    with pytest.raises(UsageError, match="give it a name with --name"):
        pull(store, f"{server.url}/download")
    assert pull(store, f"{server.url}/download", name="mine").path.read_bytes() == model


def test_urls_that_differ_only_in_their_query_are_different_sources(store: Store, server: Server, model: bytes) -> None:
    server.files["/x.gguf"] = model
    pull(store, f"{server.url}/x.gguf?id=1")
    assert not pull(store, f"{server.url}/x.gguf?id=1").fetched
    with pytest.raises(UsageError, match="another model named x"):
        pull(store, f"{server.url}/x.gguf?id=2")


def test_parts_on_a_web_server_are_found_by_their_names(store: Store, server: Server, tmp_path: Path) -> None:
    write_parts(tmp_path)
    server.files = {f"/{path.name}": path.read_bytes() for path in tmp_path.glob("model-*.gguf")}
    assert pull(store, f"{server.url}/model-00001-of-00002.gguf").name == "model"
    assert len(names(store)) == 3
    with pytest.raises(UsageError, match=r"give the first, model-00001-of-00002\.gguf"):
        pull(store, f"{server.url}/model-00002-of-00002.gguf")


def test_an_adapter_is_no_model(store: Store, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "adapter.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    server.files["/adapter.gguf"] = path.read_bytes()
    with pytest.raises(InvalidModelFile, match="is an adapter"):
        pull(store, f"{server.url}/adapter.gguf")
    assert names(store) == []


def test_a_name_that_another_model_has_is_refused_before_anything_is_fetched(
    store: Store, server: Server, tmp_path: Path, model: bytes
) -> None:
    local = tmp_path / "mine.gguf"
    local.write_bytes(model)
    store.pull(Wanted("x", FileSource(local)), Silent())
    server.files["/x.gguf"] = model
    with pytest.raises(UsageError, match="another model named x"):
        pull(store, f"{server.url}/x.gguf")
    assert server.asked == []


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"source": "pypi:a==1", "sha256": "ab"}))
    assert read_record(tmp_path, "a") == ("pypi:a==1", ("ab",))
    (tmp_path / "b.json").write_text("[]")
    assert read_record(tmp_path, "b") is None
