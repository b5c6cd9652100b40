"""Files that must never reach llama.cpp are refused, each with a reason; sound ones pass."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import quant_shape_to_byte_shape
from hypothesis import given, settings
from hypothesis import strategies as st

from shimmy.errors import InvalidModelFile
from shimmy.models.check import check_model_file
from shimmy.models.gguf_file import read_header
from shimmy.models.metadata import ModelMetadata
from tests.tiny.models import write_embedding, write_hybrid, write_llama, write_moe, write_recurrent, write_swa

Change = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file without any fault."""
    return write_llama(tmp_path_factory.mktemp("sound") / "model.gguf", n_vocab=260, n_layer=1)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all examples of a property write to."""
    return tmp_path_factory.mktemp("scratch")


def refusal(path: Path) -> str:
    """The one-line reason why ``path`` is refused."""
    with pytest.raises(InvalidModelFile) as caught:
        check_model_file(path)
    reason = caught.value.facts["reason"]
    assert isinstance(reason, str)
    assert "\n" not in reason
    assert caught.value.message.startswith(str(path))
    return reason


def key(name: str) -> bytes:
    """A key as it stands in the file."""
    return pack("<Q", len(name)) + name.encode()


def number(name: str, old: int, new: int) -> Change:
    """Gives the u32 ``name`` another value."""
    before, after = key(name) + pack("<II", 4, old), key(name) + pack("<II", 4, new % 2**32)
    return lambda data: replace(data, before, after)


def replace(data: bytes, before: bytes, after: bytes) -> bytes:
    """``data`` with the one occurrence of ``before`` replaced."""
    assert data.count(before) == 1
    return data.replace(before, after)


def output(shape: tuple[int, int], kind: int = 1) -> Change:
    """Gives the output tensor (64 x 260, f16) another shape or type."""
    name = key("output.weight")
    before = name + pack("<IQQI", 2, 64, 260, 1)
    return lambda data: replace(data, before, name + pack("<IQQI", 2, *shape, kind))


def vector_type(kind: int) -> Change:
    """Gives the last norm (64 x f32) another type."""
    name = key("output_norm.weight")
    return lambda data: replace(data, name + pack("<IQI", 1, 64, 0), name + pack("<IQI", 1, 64, kind))


def renamed(old: str, new: str) -> Change:
    """Gives a key or a tensor another name of the same length."""
    return lambda data: replace(data, key(old), key(new))


def added(*fill: Callable[[GGUFWriter], object], architecture: str = "llama") -> Callable[[Path], Path]:
    """A writer of a file with the given keys only, and one tensor."""

    def write(path: Path) -> Path:
        writer = GGUFWriter(path, architecture)
        writer.add_block_count(1)
        writer.add_context_length(64)
        writer.add_embedding_length(32)
        for step in fill:
            step(writer)
        writer.add_tensor("token_embd.weight", np.zeros((3, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def test_a_sound_file_passes_with_its_metadata(sound: Path) -> None:
    assert check_model_file(sound).architecture == "llama"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: b"", "is empty"),
        (lambda _: b"hello", "no GGUF file"),
        (lambda _: b"<!DOCTYPE html>", "web page"),
        (lambda data: b"PK\x03\x04" + data, "zip archive"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (lambda data: b"GGUF" + pack("<I", 1) + data[8:], "version 1;"),
        (lambda data: b"GGUF" + pack(">I", 3) + data[8:], "big-endian"),
        (lambda data: data[:8] + pack("<Q", 2**63) + data[16:], "tensors"),
        (lambda data: data[:16] + pack("<Q", 2**40) + data[24:], "keys"),
        (lambda data: data[:16] + pack("<Q", 1000) + data[24:], "cut short"),
        (lambda data: data[:24] + pack("<Q", 2**62) + data[32:], "cut short"),
        (lambda data: data[:100], "cut short"),
        (lambda data: data[:-1], "1 bytes are missing"),
        (lambda data: data[: len(data) // 2], "bytes are missing"),
        (renamed("general.name", "general.type"), "'general.type' twice"),
        (lambda data: replace(data, key("llama.block_count") + b"\x04", key("llama.block_count") + b"\x4d"), "type 77"),
        (renamed("blk.0.attn_k.weight", "blk.0.attn_q.weight"), "'blk.0.attn_q.weight' twice"),
        (output((0, 260)), "without any weights"),
        (output((2**40, 2**40)), "impossible shape"),
        (output((64, 260), 14), "multiple"),
        (output((64, 260), 999), "unknown type 999"),
        (vector_type(8), "quantized as Q8_0"),
        (number("llama.block_count", 1, 0), "block_count is 0"),
        (number("llama.block_count", 1, 513), "513 layers"),
        (number("llama.context_length", 2048, 0), "context_length is 0"),
        (number("llama.attention.head_count_kv", 2, 3), "do not divide"),
        (number("llama.rope.dimension_count", 16, 15), "rope.dimension_count"),
        (number("llama.rope.dimension_count", 16, 18), "rope.dimension_count"),
        (number("tokenizer.ggml.bos_token_id", 256, 260), "bos token id 260"),
        (number("tokenizer.ggml.eos_token_id", 257, 2**31), "eos token id"),
        (renamed("<|im_end|>", "<s>\0\0\0\0\0\0\0"), "'<s>' twice"),
    ],
)
def test_a_faulty_file_is_refused_with_its_reason(change: Change, reason: str, sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(change(sound.read_bytes()))
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("write", "change", "reason"),
    [
        (write_moe, number("qwen3moe.expert_used_count", 2, 5), "5 of 4 experts"),
        (write_moe, number("qwen3moe.expert_used_count", 2, 0), "0 of 4 experts"),
        (write_moe, number("qwen3moe.expert_count", 4, 2000), "2000 experts"),
        (write_hybrid, number("jamba.ssm.inner_size", 128, 64), "inner_size is 64"),
        (write_moe, number("qwen3moe.rope.dimension_count", 16, 8), "for qwen3moe they are the same"),
        (write_swa, number("gemma3.attention.sliding_window_pattern", 2, 1), "no layer that uses it"),
    ],
)
def test_impossible_shapes_of_other_architectures_are_refused(
    write: Callable[[Path], Path], change: Change, reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "model.gguf")
    path.write_bytes(change(path.read_bytes()))
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (added(lambda w: w.add_type("adapter")), "adapter"),
        (added(lambda w: w.add_type("mmproj")), "projector"),
        (added(lambda w: w.add_string("llama.rope.scaling.type", "wild")), "'wild'"),
        (added(lambda w: w.add_layer_norm_rms_eps(float("nan"))), "epsilon is nan"),
        (added(lambda w: w.add_layer_norm_rms_eps(-1.0)), "epsilon is -1.0"),
        (added(lambda w: w.add_uint32("llama.pooling_type", 5)), "pooling_type is 5"),
        (added(lambda w: w.add_head_count([4, 4, 4])), "3 layers"),
        (added(lambda w: w.add_uint32("llama.nextn_predict_layers", 2)), "nextn_predict_layers is 2"),
        (added(lambda w: w.add_tokenizer_model("gpt2")), "no tokens"),
        (
            added(
                lambda w: w.add_tokenizer_model("gpt2"),
                lambda w: w.add_token_list(["a"]),
                lambda w: w.add_add_bos_token(True),
            ),
            "bos token added",
        ),
        (added(lambda w: w.add_uint32("general.alignment", 24)), "power of two"),
        (added(lambda w: w.add_custom_alignment(16)), "aligns its tensors to 16 bytes"),
        (added(lambda w: w.add_uint32("llama.rope.dimension_count_swa", 7)), "dimension_count_swa is 7"),
        (
            added(lambda w: w.add_head_count(2), lambda w: w.add_value_length(8)),
            "are None, 16 and 8; for llama they are the same",
        ),
        (added(architecture="phimoe"), "does not say its phimoe.attention.head_count"),
        (added(lambda w: w.add_head_count(0), architecture="olmo2"), "does not say its olmo2.attention.head_count"),
        (added(lambda w: w.add_ssm_group_count(0), architecture="mamba2"), "mamba2.ssm.group_count"),
        (added(lambda w: w.add_ssm_group_count(1), architecture="mamba2"), "mamba2.ssm.time_step_rank"),
        (added(architecture="grovemoe"), "grovemoe.experts_per_group"),
        (added(architecture="smallthinker"), "does not say its smallthinker.expert_count"),
        (added(lambda w: w.add_head_count_kv(2), architecture="lfm2"), "some without are right"),
        (added(architecture="arwkv7"), "arwkv7.token_shift_count is 1"),
        (added(architecture="paddleocr"), "paddleocr.rope.dimension_sections"),
        (added(architecture="gemma-embedding"), "no layer without a sliding window"),
        (added(lambda w: w.add_uint32("split.count", 2)), "one of 2 parts"),
    ],
)
def test_what_a_file_says_of_itself_must_make_sense(write: Callable[[Path], Path], reason: str, tmp_path: Path) -> None:
    assert reason in refusal(write(tmp_path / "model.gguf"))


def retyped(path: Path, name: str, kind: GGMLQuantizationType) -> Path:
    """The file with one tensor of zeros of another type in place of its own."""
    reader = GGUFReader(path)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = GGUFWriter(path.with_suffix(".retyped"), architecture)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            element = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=element)
    for tensor in reader.tensors:
        shape = tuple(int(length) for length in reversed(tensor.shape))
        if tensor.name == name:
            data = np.zeros(quant_shape_to_byte_shape(shape, kind), np.uint8)
            writer.add_tensor(tensor.name, data, raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.with_suffix(".retyped")


@pytest.mark.parametrize(
    ("write", "name", "kind", "reason"),
    [
        (write_llama, "blk.0.attn_norm.weight", "F16", "vector 'blk.0.attn_norm.weight' quantized as F16"),
        (write_llama, "blk.0.attn_norm.weight", "BF16", "quantized as BF16"),
        (write_llama, "blk.0.attn_q.weight", "Q8_1", "in Q8_1, which nothing can be computed with"),
        (write_llama, "token_embd.weight", "F64", "in F64"),
        (write_llama, "blk.1.ffn_up.weight", "I32", "in I32"),
        (write_llama, "blk.1.ffn_up.weight", "I8", "in I8"),
        (write_recurrent, "blk.0.ssm_conv1d.weight", "F16", "quantized as F16"),
        (write_recurrent, "blk.0.ssm_a", "BF16", "quantized as BF16"),
    ],
)
def test_types_that_nothing_can_be_computed_with_are_refused(
    write: Callable[[Path], Path], name: str, kind: str, reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "model.gguf")
    assert reason in refusal(retyped(path, name, GGMLQuantizationType[kind]))


@pytest.mark.parametrize("kind", ["F32", "BF16", "Q8_0", "Q4_0", "Q5_1", "IQ4_NL"])
def test_types_of_weights_pass(kind: str, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.gguf")
    check_model_file(retyped(path, "blk.0.attn_q.weight", GGMLQuantizationType[kind]))


def test_word_pieces_have_no_bytes(tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "model.gguf")
    check_model_file(path)
    data = path.read_bytes()
    types = data.index(key("tokenizer.ggml.token_type")) + len(key("tokenizer.ggml.token_type")) + 4 + 4 + 8
    path.write_bytes(data[:types] + pack("<i", 6) + data[types + 4 :])
    assert "tokens that stand for single bytes" in refusal(path)


def test_an_id_of_minus_one_means_no_token(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(number("tokenizer.ggml.eos_token_id", 257, -1)(sound.read_bytes()))
    check_model_file(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.gguf")


def test_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path)


def test_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.symlink_to(path)
    assert "cannot be read" in refusal(path)


def write_parts(folder: Path, numbers: tuple[int, ...] = (0, 1)) -> Path:
    """A model in parts that call themselves ``numbers``; returns the first."""
    for place, split_no in enumerate(numbers):
        part = folder / f"model-{place + 1:05}-of-{len(numbers):05}.gguf"
        added(
            lambda w, split_no=split_no: w.add_uint16("split.no", split_no),  # type: ignore[misc]
            lambda w: w.add_uint16("split.count", len(numbers)),
        )(part)
    return folder / f"model-00001-of-{len(numbers):05}.gguf"


def test_a_model_in_parts_passes_by_its_first(tmp_path: Path) -> None:
    model = check_model_file(write_parts(tmp_path))
    assert (model.split_count, model.split_no) == (2, 0)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first = write_parts(tmp_path)
    (tmp_path / "model-00002-of-00002.gguf").unlink()
    assert "model-00002-of-00002.gguf is missing" in refusal(first)


def test_a_part_that_is_another_is_refused(tmp_path: Path) -> None:
    first = write_parts(tmp_path)
    second = tmp_path / "model-00002-of-00002.gguf"
    shutil.copy(first, second)
    with pytest.raises(InvalidModelFile, match="part 2 of 2") as caught:
        check_model_file(first)
    assert caught.value.facts["path"] == str(second)


def answer(path: Path) -> ModelMetadata | str:
    """What the checks say; any error but InvalidModelFile fails the test."""
    try:
        return check_model_file(path)
    except InvalidModelFile as error:
        return error.message


@settings(max_examples=200)
@given(data=st.binary(max_size=200), magic=st.booleans())
def test_arbitrary_bytes_never_raise_another_error(scratch: Path, data: bytes, magic: bool) -> None:
    path = scratch / "model.gguf"
    path.write_bytes((b"GGUF\x03\0\0\0" if magic else b"") + data)
    assert isinstance(answer(path), str)


@settings(max_examples=300)
@given(data=st.data())
def test_a_changed_header_never_raises_another_error(scratch: Path, sound: Path, data: st.DataObject) -> None:
    content = bytearray(sound.read_bytes())
    end_of_header = read_header(sound).data_start
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, end_of_header))
        value = data.draw(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 600)))
        width = data.draw(st.sampled_from([1, 4, 8]))
        content[at : at + width] = pack("<Q", value)[:width]
    path = scratch / "model.gguf"
    path.write_bytes(content)
    said = answer(path)
    if isinstance(said, str):
        assert said.startswith(str(path))
        assert "\n" not in said
    else:
        assert said.file_size == len(content)


@settings(max_examples=100)
@given(data=st.data())
def test_a_file_that_ends_anywhere_is_refused(scratch: Path, sound: Path, data: st.DataObject) -> None:
    content = sound.read_bytes()
    cut = data.draw(st.one_of(st.integers(0, read_header(sound).data_start), st.integers(0, len(content) - 1)))
    path = scratch / "model.gguf"
    path.write_bytes(content[:cut])
    assert isinstance(answer(path), str)
