"""`shimmy serve` as a person starts it: what it says, where it says it, and how it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.running import TIMEOUT_S, Shimmy, said
from tests.cli.served import serving
from tests.worker.damage import with_a_token_twice


def test_the_address_is_all_there_is_on_stdout(shimmy: Shimmy, tiny_llama: Path) -> None:
    with serving(shimmy, "--model", tiny_llama) as server:
        assert server.line.startswith("shimmy ")
        assert " listens on http://127.0.0.1:" in server.line
        lines = server.until("devices: ")
        assert lines[0] == f"models: {tiny_llama.stem}"
        assert any(line.startswith("try: curl http://127.0.0.1:") for line in lines)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        assert not server.rest[0]


def test_the_line_to_try_gets_an_answer(shimmy: Shimmy, tiny_llama: Path) -> None:
    with serving(shimmy, "--model", tiny_llama) as server:
        (line,) = [line for line in server.until("devices: ") if line.startswith("try: ")]
        words = shlex.split(line.removeprefix("try: "))
        assert words[0] == "curl"
        url, body = urlsplit(words[1]), {**json.loads(words[words.index("-d") + 1]), "max_tokens": 2}
        header, _, value = words[words.index("-H") + 1].partition(": ")
        connection = HTTPConnection(url.netloc, timeout=TIMEOUT_S)
        connection.request("POST", url.path, json.dumps(body), {header: value})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        connection.close()


def test_without_models_it_says_how_to_get_one(shimmy: Shimmy) -> None:
    with serving(shimmy) as server:
        assert server.until("devices: ")[0] == "models: none yet; 'shimmy pull' fetches one"


def test_a_log_of_json_stays_one(shimmy: Shimmy, tiny_llama: Path) -> None:
    with serving(shimmy, "--model", tiny_llama, "--log-format", "json", "--api-key", "secret") as server:
        messages = [json.loads(line)["message"] for line in server.until('"devices: ')]
        (line,) = [message for message in messages if message.startswith("try: ")]
        assert "$SHIMMY_API_KEY" in line
        assert "secret" not in " ".join(messages)


@pytest.fixture
def broken(tmp_path: Path, tiny_llama: Path) -> Path:
    """A model that can be named and not loaded."""
    with_a_token_twice(tiny_llama, tmp_path / "broken.gguf")
    return tmp_path / "broken.gguf"


def test_a_load_that_fails_is_said_once_and_in_the_log(shimmy: Shimmy, broken: Path) -> None:
    with serving(shimmy, "--model", broken, "--log-format", "json") as server:
        *_, last = server.until("loading broken failed")
        assert json.loads(last)["level"] == "warning"
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        rest = [json.loads(line)["message"] for line in server.rest[1].splitlines()]
        assert not any("broken.gguf" in message for message in rest)


def test_a_server_whose_stderr_is_closed_serves(shimmy: Shimmy, broken: Path) -> None:
    with serving(shimmy, "--model", broken) as server:
        assert server.process.stderr is not None
        server.process.stderr.close()
        connection = server.connect()
        status = ""
        while status != "failed":  # which has been said by then
            connection.request("GET", "/api/models")
            status = json.loads(connection.getresponse().read())["models"][0]["status"]
        connection.close()
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        assert not server.rest[0]


def test_the_server_itself_never_loads_llama_cpp(shimmy: Shimmy, tiny_llama: Path) -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux says what a process has mapped")
    with serving(shimmy, "--model", tiny_llama) as server:
        server.until("devices: ")
        assert "libshimmy" not in Path(f"/proc/{server.process.pid}/maps").read_text()


@pytest.mark.parametrize(("name", "message"), [("nobody", "no model named 'nobody'"), ("none.gguf", "none.gguf")])
def test_a_model_that_there_is_not_ends_it_at_once(shimmy: Shimmy, name: str, message: str) -> None:
    assert message in said(shimmy("serve", "--port", "0", "--model", name), 1)


@pytest.mark.parametrize(
    "contents", [lambda _: b"GGUF, but not really", lambda model: model[:-1000]], ids=["no model", "cut short"]
)
def test_a_file_that_is_no_model_ends_it_at_once(
    shimmy: Shimmy, tiny_llama: Path, contents: Callable[[bytes], bytes]
) -> None:
    file = shimmy.folder / "file.gguf"
    file.write_bytes(contents(tiny_llama.read_bytes()))
    assert "file.gguf" in said(shimmy("serve", "--port", "0", "--model", file), 1)


def test_a_chat_template_that_there_is_not_is_wrong_usage(shimmy: Shimmy, tiny_llama: Path) -> None:
    line = said(shimmy("serve", "--port", "0", "--model", tiny_llama, "--chat-template", "none.jinja"), 2)
    assert "none.jinja" in line


def test_what_listening_needs_leaves_out_what_it_does_not() -> None:
    code = "import sys, shimmy.commands.serving, shimmy.api.routes as r; r.all_routes(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    slow = {"numpy", "cffi", "_cffi_backend", "psutil", "rich", "huggingface_hub", "httpx2", "shimmy.native.ffi"}
    assert slow & set(done.stdout.split()) == set()
