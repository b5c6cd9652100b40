"""Every bad input is one line on stderr that says what to do, with the right exit code, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

import pytest

from shimmy.models.check import check_model_file
from tests.cli.running import Shimmy, said
from tests.tiny.models import write_aborting, write_llama
from tests.worker.damage import with_a_token_twice, with_text

GENERATE = ("--prompt", "hello", "--max-tokens", "3")
linux = pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's limits and capabilities")


def test_no_model_at_all_says_how_to_get_one(shimmy: Shimmy) -> None:
    for command in (("generate", *GENERATE), ("probe",)):
        assert "'shimmy pull' fetches" in said(shimmy(*command), 1)


def test_no_such_model_names_the_nearest(shimmy: Shimmy, tiny_llama: Path) -> None:
    (shimmy.folder / "models").mkdir()
    (shimmy.folder / "models/tiny-llama.gguf").symlink_to(tiny_llama)
    line = said(shimmy("generate", "tinylama", *GENERATE), 1)
    assert line == "no model named 'tinylama'; did you mean tiny-llama?"


def test_a_path_that_is_not_there(shimmy: Shimmy) -> None:
    assert "does not exist" in said(shimmy("generate", "./none.gguf", *GENERATE), 1)


def test_a_folder_in_place_of_a_file(shimmy: Shimmy, tmp_path: Path) -> None:
    assert "a folder" in said(shimmy("generate", tmp_path, *GENERATE), 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello\n", "is no GGUF file"),
        (b"<html>not found</html>", "is a web page; the download went wrong"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive; unpack it first"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "which no model has"),
    ],
)
def test_a_file_that_is_no_model(data: bytes, message: str, shimmy: Shimmy) -> None:
    path = shimmy.folder / "no.gguf"
    path.write_bytes(data)
    for command in (("generate", path, *GENERATE), ("probe", path)):
        line = said(shimmy(*command), 1)
        assert message in line
        assert "no.gguf" in line


@pytest.mark.parametrize("keep", [40, 5_000, 100_000])
def test_a_truncated_file(keep: int, shimmy: Shimmy, tiny_llama: Path) -> None:
    path = shimmy.folder / "cut.gguf"
    path.write_bytes(tiny_llama.read_bytes()[:keep])
    line = said(shimmy("generate", path, *GENERATE), 1)
    assert "cut short" in line
    assert "fetch it again" in line


def test_a_corrupt_file(shimmy: Shimmy, tiny_llama: Path) -> None:
    path = with_a_token_twice(tiny_llama, shimmy.folder / "twice.gguf")
    assert "has the token '!' twice in its vocabulary" in said(shimmy("generate", path, *GENERATE), 1)


def test_an_unknown_architecture(shimmy: Shimmy, tiny_llama: Path) -> None:
    path = with_text(tiny_llama, shimmy.folder / "new.gguf", "general.architecture", "llamx")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"llama.", b"llamx."))
    line = said(shimmy("generate", path, *GENERATE), 1)
    assert line == "the architecture 'llamx' is unknown here: use another model, or a newer shimmy"


def test_a_model_that_only_embeds_or_ranks(shimmy: Shimmy, tiny_embedding: Path, tiny_reranker: Path) -> None:
    for model in (tiny_embedding, tiny_reranker):
        line = said(shimmy("generate", model, *GENERATE), 1)
        assert line == "this model makes embeddings and cannot generate text: use another one"


def test_filling_in_the_middle_with_a_model_that_cannot(shimmy: Shimmy, tiny_llama: Path) -> None:
    line = said(shimmy("generate", tiny_llama, *GENERATE, "--suffix", "the end"), 1)
    assert line.startswith("this model cannot fill in the middle: leave suffix out")


def test_a_model_that_makes_llama_cpp_abort(shimmy: Shimmy) -> None:
    """The check knows the rules of few architectures."""
    path = write_aborting(shimmy.folder / "odd.gguf")
    check_model_file(path)
    for command in (("generate", path, *GENERATE), ("probe", path)):
        done = shimmy(*command, before=_allow_core_files)
        line = said(done, 1)
        assert line.startswith("llama.cpp gave up on this model: ")
        assert line.endswith("the file may be damaged")


def _allow_core_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def test_no_memory_for_the_context(shimmy: Shimmy, tiny_llama: Path) -> None:
    line = said(shimmy("generate", tiny_llama, *GENERATE, "--ctx", "2000000000"), 1)
    assert line.startswith("the model with a context of 2000000000 tokens needs 24")
    assert "use --ctx " in line


@linux
def test_no_memory_for_the_context_under_a_limit(shimmy: Shimmy, tiny_llama: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

    line = said(shimmy("generate", tiny_llama, *GENERATE, "--ctx", "3000000", before=limit), 1)
    assert line.startswith("the model with a context of 3000000 tokens needs 3.7 GiB of memory (")
    advised = line.rpartition("use --ctx ")[2]
    assert shimmy("generate", tiny_llama, *GENERATE, "--ctx", advised, before=limit).code == 0


@linux
def test_no_permission(shimmy: Shimmy, tiny_llama: Path) -> None:
    path = shimmy.folder / "secret.gguf"
    path.write_bytes(tiny_llama.read_bytes())
    path.chmod(0)
    for command in (("generate", path, *GENERATE), ("pull", path)):
        assert "permission" in said(shimmy(*command, before=_be_nobody_special), 1)


def _be_nobody_special() -> None:
    """Root may read everything, by two capabilities that it can do without."""
    pr_capbset_drop, cap_dac_override, cap_dac_read_search = 24, 1, 2
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        libc.prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0)
        libc.prctl(pr_capbset_drop, cap_dac_read_search, 0, 0, 0)


@linux
def test_a_store_that_cannot_be_written(shimmy: Shimmy, tiny_llama: Path) -> None:
    shimmy.store.mkdir(mode=0o500)
    line = said(shimmy("pull", tiny_llama, before=_be_nobody_special), 1)
    assert "cannot be written; change its permissions, or set SHIMMY_STORE to another folder" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-tokens", "-1"), "--max-tokens -1: must be a whole number from 0 to 2147483647"),
        (("--max-tokens", "many"), "--max-tokens many: must be a whole number"),
        (("--max-tokens", "1.5"), "--max-tokens 1.5: must be a whole number"),
        (("--max-tokens=",), "--max-tokens : must be a whole number"),
        (("--temperature", "hot"), "--temperature hot: must be a number from 0 on"),
        (("--temperature", "-0.1"), "--temperature -0.1: must be a number from 0 on"),
        (("--temperature", "nan"), "--temperature nan: must be a number from 0 on"),
        (("--temperature", "inf"), "--temperature inf: must be a number from 0 on"),
        (("--temperature", "1e39"), "--temperature 1e39: must be a number from 0 on"),
        (("--top-k", "-1"), "--top-k -1: must be a whole number from 0"),
        (("--top-k", "1e3"), "--top-k 1e3: must be a whole number"),
        (("--top-k", "9" * 5000), "must be a whole number from 0"),
        (("--top-p", "1.1"), "--top-p 1.1: must be a number from 0 to 1"),
        (("--top-p", "nan"), "--top-p nan: must be a number from 0 to 1"),
        (("--min-p", "-1"), "--min-p -1: must be a number from 0 to 1"),
        (("--repeat-penalty", "0"), "--repeat-penalty 0: must be above 0; 1 is off"),
        (("--repeat-penalty", "x"), "--repeat-penalty x: must be a number"),
        (("--seed", "-1"), "--seed -1: must be a whole number from 0 to 4294967295"),
        (("--seed", "4294967296"), "--seed 4294967296: must be a whole number from 0 to 4294967295"),
        (("--ctx", "-1"), "--ctx -1: ctx is a whole number from 0"),
        (("--ctx", "2k"), "--ctx 2k: ctx is a whole number from 0"),
        (("--threads", "513"), "--threads 513: threads is a whole number from 0 to 512"),
        (("--gpu-layers", "some"), "--gpu-layers some: gpu_layers is 'all' or a whole number"),
        (("--flash-attn", "yes"), "--flash-attn yes: flash_attn is one of auto, on, off"),
        (("--device-sampling", "yes"), "--device-sampling yes: device_sampling is one of auto, on, off"),
        (("--type-k", "q3"), "--type-k q3: type_k is one of f32, f16"),
        (("--config", "/none.toml"), "the configuration file /none.toml does not exist"),
        (("--system", "x", "--raw"), "--system goes through the chat template, which --raw leaves out"),
        (("--stop", ""), "--stop needs a text that is not empty"),
        (("--stop", "x") * 17, "--stop was given 17 times: 16 are allowed"),
        (("--grammar", "/none.gbnf"), "--grammar /none.gbnf: the file cannot be read: No such file"),
        (("--grammar", "/"), "--grammar /: the file cannot be read: Is a directory"),
        (("--json-schema", "/dev/zero"), "--json-schema /dev/zero: the file has more than 1,048,576 bytes"),
        (("--grammar", "/dev/null", "--json-schema", "/dev/null"), "these arguments do not fit"),
        (("--bogus",), "there is no option --bogus"),
        (("--stop", b"\xff"), "--stop: the text is not UTF-8"),
        (("--system", b"\xff"), "--system: the text is not UTF-8"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_option_is_found_before_the_model_is_looked_for(
    arguments: tuple[str | bytes, ...], message: str, shimmy: Shimmy
) -> None:
    line = said(shimmy("generate", "no-model", "--prompt", "hello", *arguments), 2)
    assert message in line


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--grammar", b'root ::= ("yes"\n', "grammar line 1, column 10: the text ends inside of this '('"),
        ("--grammar", b"", "grammar is empty"),
        ("--schema", b"[]", "json_schema at #: a schema must be an object, true or false"),
        ("--json-schema", b"{", "json_schema is not valid JSON: Input data was truncated"),
        ("--schema", b"", "json_schema is not valid JSON: Input data was truncated"),
    ],
)
def test_a_wrong_grammar_is_one_line(option: str, text: bytes, message: str, shimmy: Shimmy, tiny_llama: Path) -> None:
    file = shimmy.folder / "constraint"
    file.write_bytes(text)
    assert said(shimmy("generate", tiny_llama, *GENERATE, option, file), 1) == message


def test_a_grammar_that_is_not_utf_8(shimmy: Shimmy, tiny_llama: Path) -> None:
    file = shimmy.folder / "constraint"
    file.write_bytes(b'root ::= "caf\xe9"')
    assert "the file is not UTF-8 (byte 13)" in said(shimmy("generate", tiny_llama, *GENERATE, "--grammar", file), 2)


@pytest.mark.parametrize("arguments", [(), ("bogus",), ("generate", "--prompt"), ("generate",)], ids=str)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], shimmy: Shimmy) -> None:
    if arguments:
        said(shimmy(*arguments), 2)
    else:
        done = shimmy()
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("Shimmy runs GGUF models")


def test_a_prompt_that_is_not_utf_8(shimmy: Shimmy, tiny_llama: Path) -> None:
    line = said(shimmy("generate", tiny_llama, "--prompt", "-", stdin=b"caf\xe9"), 1)
    assert line == "the prompt on stdin is not UTF-8 (byte 3): convert it, for example with iconv"
    line = said(shimmy("generate", tiny_llama, "--prompt", b"caf\xe9"), 2)
    assert line == "--prompt: the text is not UTF-8: convert it, for example with iconv"


def test_a_model_name_that_is_not_utf_8(shimmy: Shimmy, tiny_llama: Path) -> None:
    assert "no model named" in said(shimmy("generate", b"\xff", *GENERATE), 1)
    path = os.fsencode(shimmy.folder) + b"/b\xff.gguf"
    Path(os.fsdecode(path)).write_bytes(tiny_llama.read_bytes())
    assert "its name is not UTF-8: rename it" in said(shimmy("generate", path, *GENERATE), 1)
    done = shimmy("probe", path, "--json")
    assert done.code == 1
    assert '"ok": false' in done.out


def test_an_empty_prompt(shimmy: Shimmy, tiny_llama: Path) -> None:
    for prompt in ("", "-"):
        line = said(shimmy("generate", tiny_llama, "--prompt", prompt), 1)
        assert line == "the prompt is empty: give a text with --prompt, or --prompt - to read it from stdin"


def test_a_closed_stdin_is_an_empty_prompt(shimmy: Shimmy, tiny_llama: Path) -> None:
    line = said(shimmy("generate", tiny_llama, "--prompt", "-", before=lambda: os.close(0)), 1)
    assert line.startswith("the prompt is empty")


def test_a_prompt_longer_than_the_context(shimmy: Shimmy, tiny_llama: Path) -> None:
    done = shimmy("generate", tiny_llama, "--prompt", "-", "--ctx", "256", stdin=b"the cat sat on the mat " * 200)
    line = said(done, 1)
    assert "tokens and the context holds 256: shorten the prompt or raise --ctx" in line


def test_a_prompt_over_ten_megabytes(shimmy: Shimmy, tiny_llama: Path) -> None:
    done = shimmy("generate", tiny_llama, "--prompt", "-", stdin=b"x" * 10_000_001)
    assert said(done, 1) == "the prompt on stdin is over 10 MB"


def test_a_system_message_without_a_template(shimmy: Shimmy) -> None:
    path = write_llama(shimmy.folder / "bare.gguf", chat_template=None)
    line = said(shimmy("generate", path, *GENERATE, "--system", "be short"), 1)
    assert "this model has no chat template" in line


def test_a_template_that_never_ends(shimmy: Shimmy, hanging_llama: Path) -> None:
    done = shimmy("generate", hanging_llama, *GENERATE, environ={"SHIMMY_TEMPLATE_TIMEOUT_S": "0.5"})
    assert "chat template did not finish within 0.5 s" in said(done, 1)


def test_a_load_that_takes_too_long_is_given_up_and_shown_meanwhile(shimmy: Shimmy, hanging_llama: Path) -> None:
    times = {"SHIMMY_TEMPLATE_TIMEOUT_S": "100", "SHIMMY_LOAD_TIMEOUT_S": "1.5"}
    done = shimmy("generate", hanging_llama, *GENERATE, environ=times)
    assert (done.code, done.out) == (1, "")
    progress, error = done.err.splitlines()
    assert progress == "loading hanging-llama …"
    assert error.endswith("did not load within 1.5 s: set SHIMMY_LOAD_TIMEOUT_S higher")


def test_a_broken_configuration_file(shimmy: Shimmy) -> None:
    path = shimmy.folder / "config.toml"
    path.write_text("ctx = [")
    assert "is not valid TOML" in said(shimmy("list", "--config", path), 2)
    path.write_text("colour = 1")
    assert "sets 'colour', which is no setting" in said(shimmy("list", "--config", path), 2)
