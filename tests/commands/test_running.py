"""`ps`, `load` and `unload` against a server that runs, one that is none, and none."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from select import select

import pytest

from shimmy.cli import main
from shimmy.commands import ps, running
from shimmy.commands.running import RunningServer
from shimmy.config import load_config
from shimmy.errors import UsageError
from tests.api.serving import Running, serving

KEY = "open sesame"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(tiny_llama: Path) -> Iterator[Running]:
    with serving(tiny_llama, api_keys=KEY) as running:
        yield running


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line with the server's key: exit code, stdout, stderr."""
    monkeypatch.setenv("SHIMMY_CONFIG", os.devnull)
    monkeypatch.setenv("SHIMMY_API_KEY", KEY)
    for name in ("SHIMMY_URL", "SHIMMY_API_KEYS", "SHIMMY_PORT", "SHIMMY_BIND"):
        monkeypatch.delenv(name, raising=False)

    def calling(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        return (code, *capsys.readouterr())

    return calling


def test_a_model_is_loaded_shown_and_unloaded(server: Running, call: Call) -> None:
    code, out, err = call("ps", "--url", server.url)
    assert (code, out) == (0, "")
    assert err == f"no model is loaded at {server.url}\n"

    code, out, err = call("load", server.model, "--url", server.url)
    assert (code, err) == (0, "")
    assert out.startswith(f"{server.model} is ready, loaded in ")

    code, out, err = call("ps", "--url", server.url)
    assert (code, err) == (0, "")
    head, row, memory = out.splitlines()
    assert head.split() == ["NAME", "STATUS", "CONTEXT", "ACTIVE", "MEMORY", "PLANNED", "IDLE", "KEPT"]
    assert row.split()[:4] == [server.model, "ready", "2048", "0"]
    assert row.endswith("unused  for ever")
    assert memory.startswith("memory: ")
    assert " reserved, " in memory
    assert max(map(len, out.splitlines())) <= 80

    code, out, _ = call("ps", "--json", "--url", server.url)
    (model,) = json.loads(out)["models"]
    assert (model["id"], model["status"], model["waiting_requests"]) == (server.model, "ready", 0)

    assert call("unload", server.model, "--force", "--url", server.url) == (0, f"{server.model} is available\n", "")
    assert call("ps", "--url", server.url)[1] == ""


def test_a_load_with_options_says_them_to_the_server(server: Running, call: Call) -> None:
    options = ["--ctx", "512", "--keep-alive", "1h", "--temperature", "0", "--stop", "END", "--gpu-layers", "0"]
    code, _, err = call("load", server.model, *options, "--system", "Be brief.", "--url", server.url)
    assert (code, err) == (0, "")
    status = server.get(f"/api/models/{server.model}/status", authorization=f"Bearer {KEY}").json
    assert status["settings"] == {
        "ctx": 512, "keep_alive": 3600, "temperature": 0, "stop": ["END"], "gpu_layers": 0, "system": "Be brief.",
    }  # fmt: skip
    (_, row, _) = call("ps", "--url", server.url)[1].splitlines()
    assert row.split()[2] == "512"
    assert row.endswith(("60 min", "59 min", "1 h"))
    assert call("load", server.model, "--pin", "--gpu-layers", "all", "--url", server.url)[0] == 0
    assert call("ps", "--url", server.url)[1].splitlines()[1].endswith("pinned")
    code, _, err = call("load", server.model, "--lora", "nobody.gguf", "--url", server.url)
    assert (code, "is no adapter that the server's configuration names" in err) == (1, True)
    assert call("unload", server.model, "--url", server.url)[0] == 0


@pytest.mark.parametrize(
    "option",
    [
        ["--chat-template", "x.jinja"], ["--draft-model", "m"], ["--require-gpu"], ["--memory-limit", "9"],
        ["--gpu-memory-limit", "9"], ["--reasoning-budget", "5"], ["--model-dirs", "x"],
    ],
)  # fmt: skip
def test_an_option_that_no_load_says_to_the_server_is_refused(call: Call, option: list[str]) -> None:
    code, _, err = call("load", "m", *option)
    name = option[0].removeprefix("--").replace("-", "_")
    assert (code, f"{option[0]}: " in err, f"set {name} there" in err) == (2, True, True)


def test_a_long_name_is_cut_where_the_table_would_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    ps._print_table(
        [ps._HEADER, ("m" * 90, "loading 100%", "131072", "10 + 64", "999.9 MB", "1.0 GB", "unused", "forever")]
    )
    assert [len(line) for line in capsys.readouterr().out.splitlines()][1] == 80


def test_a_model_that_the_server_does_not_have(server: Running, call: Call) -> None:
    for command in ("load", "unload"):
        code, out, err = call(command, "nobody/at all", "--url", server.url)
        assert (code, out) == (1, "")
        assert err.startswith("shimmy: no model named 'nobody/at all'")
        assert err.count("\n") == 1


def test_a_key_that_is_missing_is_asked_for(server: Running, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHIMMY_API_KEY")
    assert call("ps", "--url", server.url)[::2] == (
        1,
        "shimmy: the server wants a key, or another one: put it into SHIMMY_API_KEY\n",
    )


def test_the_address_comes_from_the_variable_or_from_what_serve_would_use(
    server: Running, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIMMY_PORT", str(server.port))
    assert call("ps")[0] == 0
    monkeypatch.setenv("SHIMMY_PORT", "1")
    assert call("ps")[0] == 1
    monkeypatch.setenv("SHIMMY_URL", server.url)
    assert call("ps")[0] == 0


@pytest.mark.parametrize("command", [["ps"], ["load", "m"], ["unload", "m"]])
def test_where_no_server_is_the_line_says_how_to_start_one(command: list[str], call: Call) -> None:
    code, out, err = call(*command, "--url", "127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err == "shimmy: no server at http://127.0.0.1:1: start one with 'shimmy serve'\n"


@pytest.fixture
def stranger() -> Iterator[str]:
    """A server that is not ours."""

    class Strange(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Welcome</html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Strange) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that answers everything so; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(HTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that gives up is what some tests are about."""

    with Quiet(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


def send_json(handler: BaseHTTPRequestHandler, value: object) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(json.dumps(value).encode())


@pytest.mark.parametrize("events", [b"", b'data: {"status":"loading","progress":0.5}\n\n', b'data: {"status":"loa'])
@pytest.mark.parametrize("length", [[], [("Content-Length", "1000")]])
def test_a_server_that_ends_during_a_load_is_one_line(events: bytes, length: list[tuple[str, str]], call: Call) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in length:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(events)

    with answering(answer) as url:
        code, out, err = call("load", "model", "--url", url)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"shimmy: the server at {url} broke off ")


def test_an_unload_takes_as_long_as_the_server_works_on_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        assert not select([handler.connection], [], [], 0.5)[0]  # a client that gave up would have closed it
        send_json(handler, {"status": "available"})

    monkeypatch.setattr(running, "_ANSWER_S", 0.05)
    with answering(answer) as url:
        assert call("unload", "model", "--url", url) == (0, "model is available\n", "")
        assert call("ps", "--url", url)[::2] == (1, f"shimmy: the server at {url} does not answer: it took too long\n")


def test_what_a_server_says_of_a_model_does_not_command_the_terminal(call: Call) -> None:
    listed = {"id": "m\x1b[2J", "status": "failed"}
    status = {
        **listed,
        "error": "llama.cpp said: \x1b]0;owned\x07\nand more",
        "progress": None,
        "memory": None,
        "waiting_requests": 0,
        "context_length": None,
        "active_requests": 0,
        "last_used": None,
    }

    memory = {"reserved": 0, "limit": None, "total": 1, "available": 1}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        told = {"/api/models": {"models": [listed]}, "/api/memory": memory}
        send_json(handler, told.get(handler.path, status))

    with answering(answer) as url:
        code, out, err = call("ps", "--url", url)
    assert code == 0
    assert (out + err).replace("\n", "").isprintable()
    assert err == "m?[2J: llama.cpp said: ?]0;owned? and more\n"


def test_another_program_at_the_address_is_not_mistaken_for_shimmy(stranger: str, call: Call) -> None:
    code, _, err = call("ps", "--url", stranger)
    assert code == 1
    assert err == f"shimmy: what answers at {stranger} is not shimmy: name it with --url or SHIMMY_URL\n"


@pytest.mark.parametrize("url", ["ftp://here", "http://", "http://here:port", "http://here/?a=b", ":"])
def test_what_is_no_address_is_wrong_usage(url: str, call: Call) -> None:
    assert call("ps", "--url", url)[0] == 2


def test_a_server_on_all_addresses_is_reached_on_this_machine() -> None:
    for bind, url in (("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"), ("::1", "http://[::1]:80")):
        config = load_config({}, {"SHIMMY_CONFIG": os.devnull, "SHIMMY_BIND": bind, "SHIMMY_PORT": "80"})
        assert RunningServer.configured(config).url == url


def test_an_address_may_have_a_folder_in_front_of_the_api() -> None:
    assert RunningServer("https://here/llm/").url == "https://here/llm"
    with pytest.raises(UsageError):
        RunningServer("https://here/llm#x")
