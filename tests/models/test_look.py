"""Looking at folders: what is seen, and whether it would be seen again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shimmy.config import Config
from shimmy.models.discovery import Discovery, discover
from shimmy.models.look import Look, seen_of, unchanged
from tests.models.homes import config_of
from tests.models.trees import Hub, Ollama, put

_HOUR = 3600


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Callable[[Config], Discovery]:
    """``discover`` an hour from now, so that nothing has changed lately."""

    def look(config: Config) -> Discovery:
        with monkeypatch.context() as patch:
            began = Look.__init__

            def later(self: Look) -> None:
                began(self)
                self._began += _HOUR

            patch.setattr(Look, "__init__", later)
            return discover(config)

    return look


@pytest.fixture
def full(home: Path, tiny: bytes) -> Path:
    """A home with something in each kind of place."""
    put(home / "models/sub/a.gguf", tiny)
    put(home / "models/big-00001-of-00002.gguf", tiny)
    put(home / "models/broken.gguf", b"no model")
    put(home / "store/pulled.gguf", tiny)
    Hub(home / ".cache/huggingface/hub").snapshot("org/m", "a" * 40, {"m-Q8_0.gguf": tiny + b"x"})
    Ollama(home / "ollama").add("m:1b", tiny + b"y", system="Be brief.")
    put(home / ".lmstudio/models/p/r/l.gguf", tiny + b"z")
    put(home / ".cache/llama.cpp/o_r_c.gguf", tiny + b"zz")
    return home


def test_what_has_not_changed_is_seen_to_be_so(full: Path, settled: Callable[[Config], Discovery]) -> None:
    discovery = settled(config_of(full))
    assert len(discovery.found) == 7
    assert unchanged(discovery.seen)


def test_what_has_changed_just_now_is_in_doubt(full: Path) -> None:
    assert not unchanged(discover(config_of(full)).seen)


CHANGES: dict[str, Callable[[Path, bytes], object]] = {
    "a new file": lambda home, data: put(home / "models/sub/new.gguf", data),
    "a new folder": lambda home, _: (home / "models/other").mkdir(),
    "a place that was not there": lambda home, data: put(home / ".cache/lm-studio/models/p/r/x.gguf", data),
    "a file that is gone": lambda home, _: (home / "models/sub/a.gguf").unlink(),
    "a file that grew": lambda home, data: (home / "models/broken.gguf").write_bytes(data),
    "a part that came": lambda home, data: put(home / "models/big-00002-of-00002.gguf", data),
    "a new revision": lambda home, data: Hub(home / ".cache/huggingface/hub").snapshot(
        "org/m", "b" * 40, {"n.gguf": data}
    ),
    "another main": lambda home, _: (home / ".cache/huggingface/hub/models--org--m/refs/main").write_text("c" * 40),
    "a blob that is gone": lambda home, _: shutil.rmtree(home / ".cache/huggingface/hub/models--org--m/blobs"),
    "another repository": lambda home, data: Hub(home / ".cache/huggingface/hub").snapshot(
        "o/n", "a" * 40, {"n.gguf": data}
    ),
    "a new tag": lambda home, data: put(home / "ollama/manifests/registry.ollama.ai/library/m/2b", data[:9]),
    "another manifest": lambda home, _: (home / "ollama/manifests/registry.ollama.ai/library/m/1b").write_text("{}"),
    "other settings of LM Studio": lambda home, _: put(home / ".lmstudio/settings.json", b"{}"),
    "a new manifest of llama.cpp": lambda home, _: put(home / ".cache/llama.cpp/manifest=o=r=latest.json", b"{}"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_seen(full: Path, tiny: bytes, settled: Callable[[Config], Discovery], change: str) -> None:
    discovery = settled(config_of(full))
    assert unchanged(discovery.seen)
    CHANGES[change](full, tiny)
    assert not unchanged(discovery.seen)


def test_a_folder_that_becomes_readable_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    before = seen_of(str(tmp_path / "locked"))
    time.sleep(0.05)  # the times of some kernels and file systems are as coarse as a tick of their clock
    (tmp_path / "locked").chmod(0o755)
    assert seen_of(str(tmp_path / "locked")) != before


LINKS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from("xyz")), max_size=12)


@given(LINKS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_links_lead_where_each_file_is_found_once(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[int, int, str]]
) -> None:
    root = tmp_path_factory.mktemp("links")
    folders = [root / "0", root / "0/1", root / "0/1/2", root / "3", root / "3/4", root / "5"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / f"file{number}.gguf").write_bytes(b"")
    for start, end, name in links:
        link = folders[start] / name
        if not link.is_symlink():
            link.symlink_to(folders[end])
    found = sorted(path.name for path in Look().walk(root))
    assert found == [f"file{number}.gguf" for number in range(6)]
