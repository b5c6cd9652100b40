"""`shimmy chat`, in a terminal and in a pipe, on a worker of its own and on a server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.serving import Running, serving
from tests.cli.running import Shimmy, said
from tests.cli.terminal import CTRL_C, CTRL_D, UP, in_terminal
from tests.tiny.models import write_llama

BRIEF = ("--temperature", "0", "--max-tokens", "6")


@pytest.fixture(autouse=True)
def alone(shimmy: Shimmy) -> None:
    """No server of this machine, and a worker that is quick to load."""
    shimmy.environ |= {"SHIMMY_PORT": "1", "SHIMMY_CTX": "2048", "SHIMMY_THREADS": "1"}
    for name in ("SHIMMY_URL", "SHIMMY_API_KEY", "SHIMMY_API_KEYS"):
        shimmy.environ.pop(name, None)


@pytest.fixture(scope="module")
def server(tiny_llama: Path) -> Iterator[Running]:
    with serving(tiny_llama) as running:
        assert running.post(f"/api/models/{running.model}/load").status == 200  # its worker is no test's own
        yield running


def saved(shimmy: Shimmy, name: str = "talk.json") -> list[dict[str, str]]:
    found: dict[str, Any] = json.loads((shimmy.folder / name).read_text(encoding="utf-8"))
    messages: list[dict[str, str]] = found["messages"]
    return messages


def typed(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_each_line_of_a_pipe_is_a_turn_of_one_conversation(shimmy: Shimmy, tiny_llama: Path) -> None:
    lines = typed("hello there", "", "and again", "/save talk.json")
    done = shimmy("chat", tiny_llama, *BRIEF, "--system", "be brief", stdin=lines)
    assert done.code == 0, done
    messages = saved(shimmy)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [message["content"] for message in messages[:2]] == ["be brief", "hello there"]
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert done.out == "".join(answer if answer.endswith("\n") else f"{answer}\n" for answer in answers)
    assert ">>>" not in done.out + done.err


def test_the_conversation_so_far_is_given_to_the_model(shimmy: Shimmy, tiny_llama: Path) -> None:
    """Greedy, so that only what came before can make a difference."""
    shimmy("chat", tiny_llama, *BRIEF, stdin=typed("hello", "same", "/save a.json"))
    shimmy("chat", tiny_llama, *BRIEF, stdin=typed("another begin", "same", "/save b.json"))
    shimmy("chat", tiny_llama, *BRIEF, stdin=typed("hello", "/clear", "same", "/save c.json"))
    shimmy("chat", tiny_llama, *BRIEF, stdin=typed("same", "/save d.json"))
    last = {name: saved(shimmy, f"{name}.json")[-1]["content"] for name in "abcd"}
    assert last["a"] != last["b"]
    assert last["c"] == last["d"]


def test_turns_of_several_lines(shimmy: Shimmy, tiny_llama: Path) -> None:
    lines = typed("one\\", "two", '"""', "three \\", "/help", '"""', '"""four"""', "//quit", "/save talk.json")
    assert shimmy("chat", tiny_llama, *BRIEF, stdin=lines).code == 0
    asked = [message["content"] for message in saved(shimmy) if message["role"] == "user"]
    assert asked == ["one\ntwo", "three \\\n/help", "four", "/quit"]


def test_commands_of_a_conversation(shimmy: Shimmy, tiny_llama: Path) -> None:
    lines = typed("/help", "/system be kind", "/model", "/save a.txt", "/system", "/quit", "never asked")
    done = shimmy("chat", tiny_llama, stdin=lines)
    assert (done.code, done.out) == (0, "")
    assert "/save FILE" in done.err
    assert f"{tiny_llama.stem}, here" in done.err
    assert done.err.endswith("there is no system message\n")
    assert (shimmy.folder / "a.txt").read_text() == "system: be kind\n"


def test_another_model_goes_on_with_the_conversation(shimmy: Shimmy, tiny_llama: Path, tmp_path: Path) -> None:
    other = write_llama(tmp_path / "other.gguf")
    lines = typed("hello", f"/model {other}", "again", "/save talk.json")
    done = shimmy("chat", tiny_llama, *BRIEF, stdin=lines)
    assert done.code == 0, done
    assert "other, here\n" in done.err
    assert len(saved(shimmy)) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/dance", "there is no /dance: /help shows what there is"),
        ("/save", "/save needs the name of a file"),
        ("/save no/such/folder", "no/such/folder cannot be written"),
        ("/model nobody", "no model named 'nobody'"),
        ("word " * 3000, "the prompt has "),
    ],
)
def test_a_mistake_in_a_pipe_is_one_line_and_the_end(shimmy: Shimmy, tiny_llama: Path, line: str, message: str) -> None:
    assert said(shimmy("chat", tiny_llama, stdin=typed(line, "hello")), 1).startswith(message)


def test_a_file_that_is_there_is_not_overwritten(shimmy: Shimmy, tiny_llama: Path) -> None:
    (shimmy.folder / "kept").write_text("mine")
    assert "kept is there already" in said(shimmy("chat", tiny_llama, stdin=typed("/save kept")), 1)
    assert (shimmy.folder / "kept").read_text() == "mine"


def test_bytes_that_are_no_text_are_refused(shimmy: Shimmy, tiny_llama: Path) -> None:
    assert "not UTF-8" in said(shimmy("chat", tiny_llama, stdin=b"\xff\xfe\n"), 1)


def test_a_model_without_a_chat_template_says_what_to_do(shimmy: Shimmy, tmp_path: Path) -> None:
    bare = write_llama(tmp_path / "bare.gguf", chat_template=None)
    assert "shimmy generate --raw" in said(shimmy("chat", bare, stdin=typed("hello")), 1)


def test_in_a_terminal_one_talks_and_ends_with_ctrl_d(shimmy: Shimmy, tiny_llama: Path) -> None:
    with in_terminal(shimmy, "chat", tiny_llama, *BRIEF) as terminal:
        terminal.until(f"{tiny_llama.stem}, here (/help, Ctrl-D ends)")
        terminal.until(">>> ")
        terminal.type("hello there")
        terminal.until("(cut off after 6 tokens")
        terminal.until(">>> ")
        terminal.type("one\\")
        terminal.until("... ")
        terminal.type("two")
        terminal.until(">>> ")
        terminal.type("/save talk.json")
        terminal.until("saved 4 messages")
        terminal.until(">>> ")
        terminal.press(CTRL_D)
        assert terminal.end() == 0
    assert [message["content"] for message in saved(shimmy) if message["role"] == "user"] == ["hello there", "one\ntwo"]


def test_ctrl_c_stops_the_answer_and_not_the_program(shimmy: Shimmy, long_llama: Path) -> None:
    shimmy.environ["SHIMMY_CTX"] = "65536"
    endless = ("--temperature", "0", "--max-tokens", "60000")
    with in_terminal(shimmy, "chat", long_llama, *endless) as terminal:
        terminal.until(">>> ")
        terminal.type("go on for ever")
        terminal.until("ever\r\n")
        terminal.until_more(300)
        terminal.press(CTRL_C)
        terminal.until(">>> ")
        terminal.interrupt_until(">>> ")  # at the prompt it only begins a new line
        terminal.type("/save talk.json")
        terminal.until("saved 2 messages")
        terminal.type("/quit")
        assert terminal.end() == 0
    assert saved(shimmy)[1]["content"]  # what was seen of the answer


def test_lines_are_remembered_from_one_time_to_the_next(shimmy: Shimmy, tiny_llama: Path) -> None:
    pytest.importorskip("readline")
    with in_terminal(shimmy, "chat", tiny_llama, *BRIEF) as terminal:
        terminal.until(">>> ")
        terminal.type("/system one of a kind")
        terminal.until("is set")
        terminal.type("/quit")
        assert terminal.end() == 0
    history = shimmy.folder / "cache" / "chat-history"
    assert history.stat().st_mode & 0o777 == 0o600
    with in_terminal(shimmy, "chat", tiny_llama, *BRIEF) as terminal:
        terminal.until(">>> ")
        terminal.press(UP)
        terminal.until("/quit")
        terminal.press(UP)
        terminal.until("system one of a kind")  # the slash stands there from the line before it
        terminal.type("")
        terminal.until("is set")
        terminal.until(">>> ")
        terminal.press(CTRL_D)
        assert terminal.end() == 0


def test_a_mistake_in_a_terminal_is_one_line_and_not_the_end(shimmy: Shimmy, tiny_llama: Path) -> None:
    with in_terminal(shimmy, "chat", tiny_llama, *BRIEF) as terminal:
        terminal.until(">>> ")
        terminal.type("/dance")
        assert "Traceback" not in terminal.until("shimmy: there is no /dance")
        terminal.until(">>> ")
        terminal.type("hello")
        terminal.until("(cut off")
        terminal.type("/quit")
        assert terminal.end() == 0


def test_the_running_server_answers_where_it_has_the_model(shimmy: Shimmy, server: Running) -> None:
    shimmy.environ["SHIMMY_PORT"] = str(server.port)
    lines = typed("hello there", "and again", "/model", "/save talk.json")
    done = shimmy("chat", server.model, *BRIEF, stdin=lines)
    assert done.code == 0, done
    assert f"{server.model}, {server.url}" in done.err
    messages = saved(shimmy)
    assert len(messages) == 4
    body = {"model": server.model, "messages": messages[:3], "temperature": 0, "max_tokens": 6}
    answer = server.post("/v1/chat/completions", body).json
    assert answer["choices"][0]["message"]["content"] == messages[3]["content"]


def test_a_model_that_the_server_does_not_have_runs_here(shimmy: Shimmy, server: Running, tmp_path: Path) -> None:
    shimmy.environ["SHIMMY_PORT"] = str(server.port)
    other = write_llama(tmp_path / "other.gguf")
    done = shimmy("chat", other, *BRIEF, stdin=typed("hello", "/model"))
    assert done.code == 0, done
    assert "other, here\n" in done.err


@pytest.mark.parametrize("name", [(), ("default",), ("TINY-LLAMA",), ("Tiny-l",)], ids=str)
def test_the_server_says_which_model_a_name_means(shimmy: Shimmy, server: Running, name: tuple[str, ...]) -> None:
    shimmy.environ["SHIMMY_PORT"] = str(server.port)
    done = shimmy("chat", *name, stdin=typed("/model"))
    assert (done.code, done.err) == (0, f"{server.model}, {server.url}\n")


def test_with_an_address_only_the_server_is_meant(shimmy: Shimmy, server: Running) -> None:
    assert "no model named 'nobody'" in said(shimmy("chat", "nobody", "--url", server.url, stdin=b"hello\n"), 1)
    assert said(shimmy("chat", "--url", "127.0.0.1:1"), 1).startswith("no server at http://127.0.0.1:1")
    assert "--url is for a server" in said(shimmy("chat", "--url", server.url, "--ctx", "64"), 2)
    assert "--url is for a server" in said(shimmy("chat", "some.gguf", "--url", server.url), 2)


def test_a_path_is_for_a_worker_also_where_a_variable_names_a_server(shimmy: Shimmy, tiny_llama: Path) -> None:
    shimmy.environ["SHIMMY_URL"] = "http://127.0.0.1:1"
    assert "no server at" in said(shimmy("chat", stdin=b"hello\n"), 1)
    done = shimmy("chat", tiny_llama, *BRIEF, stdin=typed("/model"))
    assert (done.code, done.err) == (0, f"{tiny_llama.stem}, here\n")


def test_ctrl_c_ends_the_generation_on_the_server(shimmy: Shimmy, long_llama: Path) -> None:
    with (
        serving(long_llama, ctx=65536) as server,
        in_terminal(shimmy, "chat", "--url", server.url, "--temperature", "0", "--max-tokens", "60000") as terminal,
    ):
        terminal.until(">>> ")
        terminal.type("go on for ever")
        terminal.until("ever\r\n")
        terminal.until_more(1500)
        terminal.press(CTRL_C)
        terminal.until(">>> ")
        server.wait_until(lambda: server.served.admission.active == 0)
        terminal.press(CTRL_D)
        assert terminal.end() == 0


def test_a_refusal_of_the_server_is_one_line(shimmy: Shimmy, server: Running) -> None:
    message = said(shimmy("chat", "--url", server.url, stdin=typed("word " * 3000)), 1)
    assert re.match(r"the prompt has \d+ tokens and the context holds 2048", message)
