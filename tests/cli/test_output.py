"""What commands print: text or one JSON object on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shimmy import __version__
from shimmy.settings import SETTINGS
from tests.cli.running import TIMEOUT_S, Done, Shimmy, said
from tests.tiny.models import write_llama

GREEDY = ("--temperature", "0", "--max-tokens", "12")


def read_json(done: Done) -> Any:
    assert done.code == 0, done
    assert done.out.count("\n") == 1
    return json.loads(done.out)


def test_the_text_and_nothing_else_is_on_stdout(shimmy: Shimmy, tiny_llama: Path) -> None:
    done = shimmy("generate", tiny_llama, "--prompt", "hello", *GREEDY)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("\n")
    answer = read_json(shimmy("generate", tiny_llama, "--prompt", "hello", *GREEDY, "--json"))
    assert done.out == answer["text"] + "\n"


def test_generate_as_json_has_the_documented_fields(shimmy: Shimmy, tiny_llama: Path) -> None:
    answer = read_json(shimmy("generate", tiny_llama, "--prompt", "hello", *GREEDY, "--json"))
    assert set(answer) == {"text", "finish_reason", "usage", "timings", "model"}
    assert answer["model"] == tiny_llama.stem
    assert answer["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 12
    assert usage["total_tokens"] == usage["prompt_tokens"] + 12
    assert usage["cached_tokens"] == 0
    assert answer["timings"]["prompt_n"] == usage["prompt_tokens"]
    assert answer["timings"]["predicted_n"] == 12
    assert answer["timings"]["predicted_per_second"] > 0


@pytest.mark.parametrize("option", ["--schema", "--json-schema"])
def test_what_of_a_schema_is_not_held_is_said_beside_the_answer(option: str, shimmy: Shimmy, tiny_llama: Path) -> None:
    file = shimmy.folder / "schema.json"
    file.write_text(json.dumps({"type": "boolean", "not": {"const": True}}))
    plain = shimmy("generate", tiny_llama, "--prompt", "hello", option, file)
    assert plain.out in {"true\n", "false\n"}
    assert plain.err == "shimmy: the answer was not held to 'not' at # of the schema\n"
    answer = read_json(shimmy("generate", tiny_llama, "--prompt", "hello", option, file, "--json"))
    assert answer["text"] in {"true", "false"}
    assert answer["constraint"] == {"unsupported": [{"path": "#", "keyword": "not"}]}


def test_an_answer_matches_the_grammar_of_a_file(shimmy: Shimmy, tiny_llama: Path) -> None:
    file = shimmy.folder / "grammar.gbnf"
    file.write_text('root ::= "yes" | "no"')
    assert shimmy("generate", tiny_llama, "--prompt", "hello", "--grammar", file).out in {"yes\n", "no\n"}


def test_probe_as_json_has_the_documented_fields(shimmy: Shimmy, tiny_llama: Path) -> None:
    report = read_json(shimmy("probe", tiny_llama, "--json"))
    assert set(report) == {
        "model",
        "metadata",
        "load_ms",
        "memory",
        "ok",
        "error",
        "context",
        "notes",
        "placement",
        "adapters",
    }
    assert report["ok"]
    assert report["error"] is None
    assert report["model"]["architecture"] == report["metadata"]["architecture"] == "llama"
    assert report["load_ms"] > 0
    assert report["memory"]["resident_bytes"] > 0


def test_probe_as_json_of_what_fails_has_the_same_fields(shimmy: Shimmy) -> None:
    broken = shimmy.folder / "broken.gguf"
    broken.write_bytes(b"GGUF")
    for model in ("nothing", str(broken)):
        done = shimmy("probe", model, "--json")
        assert (done.code, done.err) == (1, "")
        report = json.loads(done.out)
        assert set(report) == {"model", "metadata", "load_ms", "memory", "ok", "error"}
        assert not report["ok"]
        assert report["model"] == model
        assert {"code", "message"} <= set(report["error"])
        assert "\n" not in report["error"]["message"]


@pytest.mark.parametrize(("name", "can"), [("tiny_embedding", "embedding"), ("tiny_reranker", "rerank")])
def test_probe_lets_a_model_that_generates_nothing_do_what_it_is_for(
    name: str, can: str, shimmy: Shimmy, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(name)
    report = read_json(shimmy("probe", path, "--json"))
    assert report["ok"]
    assert report["model"]["capabilities"] == [can]
    assert report["context"]["memory_kind"] == "none"
    assert "context here     256 tokens of one text\n" in shimmy("probe", path).out


def test_generate_fills_the_gap_before_a_suffix(shimmy: Shimmy, tiny_fim: Path) -> None:
    plain = read_json(shimmy("generate", tiny_fim, "--prompt", "the cat", *GREEDY, "--raw", "--json"))
    filled = read_json(shimmy("generate", tiny_fim, "--prompt", "the cat", "--suffix", "the dog", *GREEDY, "--json"))
    assert filled["text"] != plain["text"]
    assert filled["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
    only_suffix = read_json(shimmy("generate", tiny_fim, "--prompt", "", "--suffix", "the dog", *GREEDY, "--json"))
    assert only_suffix["usage"]["completion_tokens"] == 12


def test_probe_says_what_it_found(shimmy: Shimmy, tiny_llama: Path) -> None:
    done = shimmy("probe", tiny_llama)
    assert (done.code, done.err) == (0, "")
    assert "architecture     llama\n" in done.out
    assert str(tiny_llama) in done.out


def test_list_knows_the_store_and_the_default_folder(shimmy: Shimmy, tiny_llama: Path, tiny_moe: Path) -> None:
    empty = shimmy("list")
    assert (empty.code, empty.out) == (0, "")
    assert empty.err == "no models found: 'shimmy pull' fetches one\n"
    assert shimmy("pull", tiny_llama).out == "tiny-llama\n"
    (shimmy.folder / "models").mkdir()
    (shimmy.folder / "models/moe.gguf").symlink_to(tiny_moe)
    assert shimmy("list", "--short").out == "moe\ntiny-llama\n"
    models = json.loads(shimmy("list", "--json").out)["models"]
    assert [model["id"] for model in models] == ["moe", "tiny-llama"]
    documented = "id name description path size_bytes architecture parameter_count quantization context_length"
    assert {*documented.split(), "status", "capabilities", "source"} <= set(models[0])
    table = shimmy("list")
    assert table.err == ""
    assert table.out.splitlines()[0].startswith("NAME")
    assert len(table.out.splitlines()) == 3


def test_a_model_is_found_by_name_and_by_the_beginning_of_its_name(shimmy: Shimmy, tiny_llama: Path) -> None:
    shimmy("pull", tiny_llama)
    texts = {
        shimmy("generate", *name, "--prompt", "hello", *GREEDY).out
        for name in (["tiny-llama"], ["TINY-LLAMA"], ["tiny"], ["default"], [], [str(tiny_llama)])
    }
    assert len(texts) == 1


def test_diag_shows_every_setting_and_where_it_came_from(shimmy: Shimmy) -> None:
    report = read_json(shimmy("diag", "--json", environ={"SHIMMY_CTX": "1234"}))
    assert report["version"] == __version__
    assert report["build"]["ok"]
    assert set(report["settings"]) == {setting.name for setting in SETTINGS}
    assert report["settings"]["ctx"] == {"value": 1234, "origin": "variable SHIMMY_CTX"}
    assert report["settings"]["batch"]["origin"] == "default"
    done = shimmy("diag")
    assert done.code == 0
    assert "llama.cpp" in done.out


def test_a_seed_reproduces_and_another_does_not(shimmy: Shimmy, tiny_llama: Path) -> None:
    def text(seed: str) -> str:
        arguments = ("--temperature", "1.5", "--max-tokens", "20", "--seed", seed)
        return str(read_json(shimmy("generate", tiny_llama, "--prompt", "hello", "--json", *arguments))["text"])

    assert text("1") == text("1")
    assert text("1") != text("2")


def test_temperature_0_is_the_same_each_time_whatever_the_seed(shimmy: Shimmy, tiny_llama: Path) -> None:
    texts = {shimmy("generate", tiny_llama, "--prompt", "hello", *GREEDY, "--seed", seed).out for seed in "12"}
    assert len(texts) == 1


def test_a_stop_string_ends_the_text_before_it(shimmy: Shimmy, tiny_llama: Path) -> None:
    whole = read_json(shimmy("generate", tiny_llama, "--prompt", "hello", *GREEDY, "--json"))["text"]
    stop = whole[6:10]
    answer = read_json(shimmy("generate", tiny_llama, "--prompt", "hello", *GREEDY, "--json", "--stop", stop))
    assert answer["text"] == whole[: whole.index(stop)]
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize("n", [0, 1, 5])
def test_max_tokens_is_exact(n: int, shimmy: Shimmy, tiny_llama: Path) -> None:
    arguments = ("--prompt", "hello", "--temperature", "0", "--max-tokens", str(n), "--json")
    answer = read_json(shimmy("generate", tiny_llama, *arguments))
    assert (answer["usage"]["completion_tokens"], answer["finish_reason"]) == (n, "length")
    assert bool(answer["text"]) == (n > 0)


def test_no_tokens_wanted_prints_nothing(shimmy: Shimmy, tiny_llama: Path) -> None:
    assert shimmy("generate", tiny_llama, "--prompt", "hello", "--max-tokens", "0") == Done(0, "", "")


def test_the_prompt_goes_through_the_template_unless_raw(shimmy: Shimmy, tiny_llama: Path) -> None:
    def n_prompt(*arguments: str) -> int:
        answer = read_json(
            shimmy("generate", tiny_llama, "--prompt", "hello", "--max-tokens", "0", "--json", *arguments)
        )
        return int(answer["usage"]["prompt_tokens"])

    raw, chat, with_system = n_prompt("--raw"), n_prompt(), n_prompt("--system", "be short")
    assert raw < chat < with_system


def test_a_prompt_on_stdin_is_the_same_as_on_the_command_line(shimmy: Shimmy, tiny_llama: Path) -> None:
    text = "ümläuts, 漢字 and\nlines"
    given = shimmy("generate", tiny_llama, "--prompt", text, *GREEDY)
    read = shimmy("generate", tiny_llama, "--prompt", "-", *GREEDY, stdin=text.encode())
    assert given == read
    assert given.code == 0


def test_a_prompt_that_begins_with_a_dash(shimmy: Shimmy, tiny_llama: Path) -> None:
    assert shimmy("generate", tiny_llama, "--prompt=--raw", *GREEDY).code == 0


def test_verbose_shows_timings_on_stderr_only(shimmy: Shimmy, tiny_llama: Path) -> None:
    quiet = shimmy("generate", tiny_llama, "--prompt", "hello", *GREEDY)
    verbose = shimmy("generate", tiny_llama, "--prompt", "hello", *GREEDY, "--verbose")
    assert verbose.out == quiet.out
    last = verbose.err.splitlines()[-1]
    assert last.startswith("load ")
    assert "| decode 12 tokens, " in last


def test_verbose_shows_the_traceback_of_a_failure(shimmy: Shimmy) -> None:
    done = shimmy("generate", "none", "--prompt", "x", "--verbose")
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("shimmy: no model named 'none'")


# ---- an output that goes nowhere ---------------------------------------------------------------------------------------


def test_a_reader_that_leaves_early_ends_the_generation_in_silence(shimmy: Shimmy, long_llama: Path) -> None:
    arguments = ("--prompt", "hello", "--temperature", "0", "--max-tokens", "100000")
    process = shimmy.start("generate", long_llama, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5)
        process.stdout.close()
        assert process.wait(TIMEOUT_S) == 1
        assert process.stderr.read() == b""


@pytest.mark.parametrize("arguments", [("--help",), ("diag",), ("diag", "--json")], ids=str)
def test_a_reader_that_never_looks_is_no_traceback(arguments: tuple[str, ...], shimmy: Shimmy) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = shimmy.start(*arguments, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a full device")
def test_a_full_output_is_told_in_one_line(shimmy: Shimmy, tiny_llama: Path) -> None:
    for arguments in (("diag",), ("generate", tiny_llama, "--prompt", "x", *GREEDY), ("--help",)):
        with Path("/dev/full").open("wb") as full:
            process = shimmy.start(*arguments, stdout=full, stderr=subprocess.PIPE)
            _, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 1
        assert err == b"shimmy: the output cannot be written: No space left on device\n"


def test_closed_streams_are_no_reason_to_fail(shimmy: Shimmy, tiny_llama: Path) -> None:
    def close_all() -> None:
        for number in range(3):
            os.close(number)

    done = shimmy("generate", tiny_llama, "--prompt", "x", *GREEDY, before=close_all)
    assert done == Done(0, "", "")


def test_a_closed_stderr_does_not_stop_a_verbose_load(shimmy: Shimmy, tiny_llama: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ("generate", tiny_llama, "--prompt", "hello", *GREEDY, "--verbose")
    process = shimmy.start(*arguments, stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert out.decode() == shimmy("generate", tiny_llama, "--prompt", "hello", *GREEDY).out


def test_an_output_that_is_not_unicode_gets_escapes(shimmy: Shimmy) -> None:
    done = shimmy("--version", environ={"PYTHONIOENCODING": "ascii"})
    assert done == Done(0, f"shimmy {__version__}\n", "")
    line = said(shimmy("generate", "modèle", "--prompt", "x", environ={"PYTHONIOENCODING": "ascii"}), 1)
    assert line.startswith("no model named 'mod\\xe8le'")


def test_json_is_json_whatever_the_output_can_write(shimmy: Shimmy, tmp_path: Path) -> None:
    path = tmp_path / "bytes.gguf"
    write_llama(path, raw_bytes=True)
    arguments = ("generate", path, "--prompt", "hello", "--max-tokens", "40", "--temperature", "5", "--seed", "1")
    plain = json.loads(shimmy(*arguments, "--json").out)
    escaped = json.loads(shimmy(*arguments, "--json", environ={"PYTHONIOENCODING": "ascii"}).out)
    assert not plain["text"].isascii()
    assert escaped["text"] == plain["text"]
