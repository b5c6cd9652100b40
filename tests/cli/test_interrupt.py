"""Ctrl-C on a terminal and signals: at any moment the command ends at once, cleanly, and its worker with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.running import TIMEOUT_S, Shimmy
from tests.cli.terminal import CTRL_C, CTRL_D, Terminal, in_terminal
from tests.worker.running import is_alive, wait_gone

DECODE = ("--prompt", "hello", "--temperature", "0", "--max-tokens", "100000", "--ctx", "65536")


def check_end(it: Terminal, worker: psutil.Process, code: int) -> str:
    """What was on the terminal at the end; the worker is gone, the terminal is as it was."""
    assert it.end() == code, it.seen
    wait_gone(worker)
    assert it.modes == it.before
    assert "Traceback" not in it.seen
    return it.seen


def test_ctrl_c_while_loading(shimmy: Shimmy, hanging_llama: Path) -> None:
    shimmy.environ["SHIMMY_TEMPLATE_TIMEOUT_S"] = "600"
    with in_terminal(shimmy, "generate", hanging_llama, "--prompt", "x") as it:
        it.until("loading hanging-llama: 100 %")
        worker = it.worker()
        it.press(CTRL_C)
        seen = check_end(it, worker, 130)
        assert seen.endswith("\r\x1b[K")  # the line of progress is wiped


def test_ctrl_c_in_prefill(shimmy: Shimmy, long_llama: Path) -> None:
    prompt = shimmy.folder / "prompt"
    prompt.write_text("the cat sat on the mat " * 8000)
    with prompt.open("rb") as stdin:
        process = shimmy.start(
            "generate", long_llama, "--prompt", "-", "--ctx", "65536", stdin=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        worker = _worker_of(process)
        _wait_for_work(worker)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (130, b"", b"")
    wait_gone(worker)


def _worker_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    deadline = time.monotonic() + TIMEOUT_S
    while not (children := psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return children[0]


def _wait_for_work(worker: psutil.Process) -> None:
    """Return once the worker has computed for a second, far more than it takes to load this model."""
    deadline = time.monotonic() + TIMEOUT_S
    while is_alive(worker) and worker.cpu_times().user < 2.0:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_in_decode_ends_the_line(shimmy: Shimmy, long_llama: Path) -> None:
    with in_terminal(shimmy, "generate", long_llama, *DECODE) as it:
        it.until_words()
        worker = it.worker()
        it.press(CTRL_C)
        seen = check_end(it, worker, 130)
        assert seen.endswith("\r\n")


def test_ctrl_c_while_a_prompt_is_typed(shimmy: Shimmy, tiny_llama: Path) -> None:
    with in_terminal(shimmy, "generate", tiny_llama, "--prompt", "-") as it:
        it.until("the prompt, then Ctrl-D:")
        worker = it.worker()  # which was started before the prompt was there
        it.press("half a prom" + CTRL_C)
        check_end(it, worker, 130)


def test_a_prompt_can_be_typed(shimmy: Shimmy, tiny_llama: Path) -> None:
    with in_terminal(shimmy, "generate", tiny_llama, "--prompt", "-", "--max-tokens", "3") as it:
        it.until("the prompt, then Ctrl-D:")
        it.press("hello\n" + CTRL_D)
        assert it.end() == 0


def test_ctrl_c_twice_is_no_traceback(shimmy: Shimmy, long_llama: Path) -> None:
    with in_terminal(shimmy, "generate", long_llama, *DECODE) as it:
        it.until_words()
        worker = it.worker()
        it.press(3 * CTRL_C)
        # The third may come when Python is on its way out; a shell says 130 to both.
        assert it.end() in {130, -signal.SIGINT}
        wait_gone(worker)
        assert "Traceback" not in it.seen


def test_an_interrupted_json_prints_no_half_object(shimmy: Shimmy, long_llama: Path) -> None:
    process = shimmy.start("generate", long_llama, *DECODE, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    worker = _worker_of(process)
    _wait_for_work(worker)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (130, b"", b"")
    wait_gone(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP], ids=lambda number: number.name)
def test_the_worker_goes_with_a_command_that_is_ended(number: signal.Signals, shimmy: Shimmy, long_llama: Path) -> None:
    process = shimmy.start("generate", long_llama, *DECODE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)
        worker = _worker_of(process)
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == -number
        wait_gone(worker)
        assert process.stderr.read() == b""


def test_a_worker_that_is_killed_is_one_line_behind_the_text(shimmy: Shimmy, long_llama: Path) -> None:
    process = shimmy.start("generate", long_llama, *DECODE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        _worker_of(process).kill()
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert (first + out).endswith(b"\n")
    assert err.startswith(b"shimmy: the model's process was killed, probably for lack of memory")
    assert err.count(b"\n") == 1


def test_tokens_come_as_they_are_made(shimmy: Shimmy, long_llama: Path) -> None:
    """On a pipe as on a terminal: the reader has text long before the end."""
    process = shimmy.start("generate", long_llama, *DECODE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process:
        assert process.stdout is not None
        assert process.stdout.read(50)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
