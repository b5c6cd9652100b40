"""Pulling from a hub and from a web server, in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import TIMEOUT_S, Shimmy, said
from tests.models.serving import Handler, Server, serving


@pytest.fixture
def server(tiny_llama: Path) -> Iterator[Server]:
    with serving() as state:
        state.repo = {"tiny-Q8_0.gguf": tiny_llama.read_bytes()}
        state.files = {"/tiny.gguf": tiny_llama.read_bytes()}
        yield state


@pytest.fixture
def hub(shimmy: Shimmy, server: Server) -> Shimmy:
    """A command line whose hub is ``server``, with nothing of this machine's tokens and proxies."""
    shimmy.environ.update(HF_ENDPOINT=server.url, HF_HOME=str(shimmy.folder / "hf"), NO_PROXY="*", no_proxy="*")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        shimmy.environ.pop(name, None)
    return shimmy


def test_a_model_of_the_hub_is_pulled_listed_and_nothing_else_is_said_or_kept(hub: Shimmy, server: Server) -> None:
    done = hub("pull", "hf:org/repo:q8_0")
    assert (done.code, done.out) == (0, "tiny-q8_0\n"), done
    assert done.err.splitlines() == [
        "looking for hf:org/repo:q8_0 …",
        "downloading tiny-q8_0 …",
        f"pulled {hub.store}/tiny-q8_0.gguf",
    ]
    assert hub.files() == {"store/tiny-q8_0.gguf", "store/tiny-q8_0.json"}
    # One list of files, one question for the file, and the file: no statistics, no registries.
    assert [(asked.method, asked.path.split("/")[1]) for asked in server.asked] == [
        ("GET", "api"),
        ("HEAD", "org"),
        ("GET", "org"),
    ]
    assert all(asked.headers["user-agent"].startswith("shimmy/") for asked in server.asked)
    (listed,) = json.loads(hub("list", "--json").out)["models"]
    assert (listed["id"], listed["source"]) == ("tiny-q8_0", "store")
    assert listed["pulled_from"] == "hf:org/repo:tiny-Q8_0.gguf"
    assert "hf:org/repo:tiny-Q8_0.gguf" in hub("show", "tiny-q8_0").out


@pytest.mark.parametrize("stored", [True, False])
def test_a_token_is_sent_from_the_variable_or_from_where_the_hubs_own_tool_keeps_it(
    stored: bool, hub: Shimmy, server: Server
) -> None:
    server.token = "hf_right"
    refused = hub("pull", "hf:org/repo")
    assert refused.code == 1
    assert "HF_TOKEN" in refused.err.splitlines()[-1]
    if stored:
        (hub.folder / "hf").mkdir(exist_ok=True)
        (hub.folder / "hf" / "token").write_text("hf_right\n")
    else:
        hub.environ["HF_TOKEN"] = "hf_right"
    done = hub("pull", "hf:org/repo")
    assert done.code == 0, done
    assert "hf_right" not in done.err + (hub.store / "tiny-q8_0.json").read_text()


def test_an_interrupted_pull_ends_with_130_and_goes_on_later(hub: Shimmy, server: Server, tiny_llama: Path) -> None:
    data = tiny_llama.read_bytes()
    half = threading.Event()

    def half_way(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        handler.wfile.flush()
        half.set()
        handler.connection.recv(1)  # until the client is gone
        handler.close_connection = True
        return True

    server.answers = [half_way]
    process = hub.start("pull", "hf:org/repo", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert half.wait(TIMEOUT_S)
    part = hub.store / ".partial/tiny-q8_0/tiny-q8_0.gguf"
    while not (part.exists() and part.stat().st_size) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (130, b"")
    assert not (hub.store / "tiny-q8_0.gguf").exists()
    server.asked.clear()
    assert hub("pull", "hf:org/repo").code == 0
    (asked,) = server.fetches()
    assert re.fullmatch(r"bytes=[1-9]\d*-", asked.headers["range"])
    assert (hub.store / "tiny-q8_0.gguf").read_bytes() == data
    assert hub.files() == {"store/tiny-q8_0.gguf", "store/tiny-q8_0.json"}


def test_two_pulls_at_once_fetch_one_model(hub: Shimmy, server: Server) -> None:
    processes = [hub.start("pull", "hf:org/repo", stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    errors = sorted(process.communicate(timeout=TIMEOUT_S)[1].decode().splitlines()[-1] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert [line.partition(" ")[0] for line in errors] == ["already", "pulled"]
    assert len(server.fetches()) == 1


def test_a_hub_that_is_not_there_is_one_line(hub: Shimmy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        hub.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = hub("pull", "hf:org/repo")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("shimmy: no connection to http://127.0.0.1:")
    assert "Traceback" not in done.err


def test_a_url_is_pulled_with_its_checksum(hub: Shimmy, server: Server) -> None:
    done = hub("pull", f"{server.url}/tiny.gguf", "--sha256", "0" * 64)
    assert done.code == 1
    assert done.err.splitlines()[-1].endswith("was expected; nothing was kept")
    assert hub("pull", f"{server.url}/tiny.gguf").out == "tiny\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf:nothing", "names no repository: write hf:OWNER/NAME"),
        ("https://", "is no URL: write https://HOST/PATH.gguf"),
        ("http://example.com/x.gguf", "use https, or give --sha256"),
    ],
)
def test_a_source_that_is_none_is_said_before_anything_is_asked(text: str, message: str, hub: Shimmy) -> None:
    assert message in said(hub("pull", text), 2)
    assert not hub.store.exists()
