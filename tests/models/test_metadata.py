"""What is read from the headers of model files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFWriter

from shimmy.models.metadata import ModelMetadata, read_metadata
from shimmy.models.quantization import FILE_TYPES, TENSOR_TYPES
from tests.tiny.models import write_embedding, write_llama, write_moe, write_recurrent, write_swa

Fill = Callable[[GGUFWriter], object]


def read(folder: Path, *fill: Fill, architecture: str = "llama", tensors: bool = True) -> ModelMetadata:
    """The metadata of a file that ``fill`` gave its keys."""
    path = folder / "model.gguf"
    writer = GGUFWriter(path, architecture)
    for step in fill:
        step(writer)
    if tensors:
        writer.add_tensor("token_embd.weight", np.zeros((3, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_metadata(path)


def test_a_model_is_described_in_full(tmp_path: Path) -> None:
    model = read_metadata(write_llama(tmp_path / "model.gguf"))
    assert model.kind == "model"
    assert (model.architecture, model.name, model.licence) == ("llama", "Tiny llama", "mit")
    assert (model.context_length, model.embedding_length, model.block_count) == (2048, 64, 2)
    assert (model.head_count, model.head_count_kv, model.key_length, model.value_length) == (4, [2, 2], 16, 16)
    assert (model.vocabulary_size, model.tokenizer, model.pretokenizer) == (512, "gpt2", "gpt-2")
    assert model.quantization == "F16"
    assert model.chat_template is not None
    assert model.capabilities == ["completion", "chat"]
    assert (model.pooling, model.causal_attention, model.is_recurrent, model.is_hybrid) == (None, True, False, False)
    assert model.kv_bytes_per_token == 2 * 2 * (16 + 16) * 2


def test_parameters_are_counted_exactly(tmp_path: Path) -> None:
    embeddings = 2 * 512 * 64 + 64
    attention = 64 + 2 * 64 * 64 + 2 * 32 * 64
    feed_forward = 64 + 3 * 96 * 64
    model = read_metadata(write_llama(tmp_path / "model.gguf", n_layer=3))
    assert model.parameter_count == embeddings + 3 * (attention + feed_forward)


def test_a_sliding_window_is_read(tmp_path: Path) -> None:
    assert read_metadata(write_swa(tmp_path / "model.gguf", window=32)).sliding_window == 32


def test_experts_are_counted(tmp_path: Path) -> None:
    assert read_metadata(write_moe(tmp_path / "model.gguf", n_expert=8)).expert_count == 8


def test_a_recurrent_model_has_no_kv_cache(tmp_path: Path) -> None:
    model = read_metadata(write_recurrent(tmp_path / "model.gguf"))
    assert (model.is_recurrent, model.is_hybrid, model.kv_bytes_per_token) == (True, False, 0)


def test_an_encoder_embeds_and_does_not_complete(tmp_path: Path) -> None:
    model = read_metadata(write_embedding(tmp_path / "model.gguf"))
    assert (model.capabilities, model.pooling, model.causal_attention) == (["embedding"], "mean", False)


def test_a_decoder_with_pooling_embeds_as_well(tmp_path: Path) -> None:
    model = read(tmp_path, lambda w: w.add_pooling_type(gguf.PoolingType.LAST))
    assert (model.capabilities, model.pooling) == (["completion", "embedding"], "last")


def test_a_template_that_mentions_tools_can_call_them(tmp_path: Path) -> None:
    model = read(tmp_path, lambda w: w.add_chat_template("{% if tools %}...{% endif %}"))
    assert model.capabilities == ["completion", "chat", "tools"]


def test_named_templates_are_kept_by_name(tmp_path: Path) -> None:
    templates = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with tools"}]
    model = read(tmp_path, lambda w: w.add_chat_template(templates))
    assert (model.chat_template, model.chat_templates) == ("plain", {"tool_use": "with tools"})
    assert "tools" in model.capabilities


FIM = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]


def test_filling_in_is_seen_by_the_ids_of_its_tokens(tmp_path: Path) -> None:
    fills: list[Fill] = [
        lambda w: w.add_uint32("tokenizer.ggml.fim_pre_token_id", 1),
        lambda w: w.add_uint32("tokenizer.ggml.suffix_token_id", 2),
        lambda w: w.add_uint32("tokenizer.ggml.fim_mid_token_id", 3),
    ]
    assert "fim" in read(tmp_path, *fills).capabilities
    for absent in range(3):
        assert "fim" not in read(tmp_path, *fills[:absent], *fills[absent + 1 :]).capabilities
    named_twice = [*fills[:2], lambda w: w.add_token_list(["a", FIM[2]])]
    assert "fim" in read(tmp_path, *named_twice).capabilities


def test_filling_in_is_seen_by_the_texts_of_its_tokens(tmp_path: Path) -> None:
    assert "fim" in read(tmp_path, lambda w: w.add_token_list(["a", *FIM])).capabilities
    assert "fim" not in read(tmp_path, lambda w: w.add_token_list(["a", *FIM[:2]])).capabilities
    assert "fim" not in read(tmp_path, lambda w: w.add_token_list(["a", FIM[0], "x" + FIM[1], FIM[2]])).capabilities


def test_a_model_with_a_classifier_ranks_and_does_not_embed(tmp_path: Path) -> None:
    model = read(tmp_path, lambda w: w.add_pooling_type(gguf.PoolingType.RANK), architecture="bert")
    assert (model.pooling, model.capabilities) == ("rank", ["rerank"])


def test_a_template_for_reranking_is_no_chat_template(tmp_path: Path) -> None:
    model = read(
        tmp_path,
        lambda w: w.add_pooling_type(gguf.PoolingType.RANK),
        lambda w: w.add_string("tokenizer.chat_template.rerank", "{query} {document}"),
        architecture="qwen3",
    )
    assert model.capabilities == ["completion", "rerank"]


def test_a_decoder_that_looks_both_ways_only_embeds(tmp_path: Path) -> None:
    model = read(tmp_path, lambda w: w.add_causal_attention(False), lambda w: w.add_chat_template("a"))
    assert model.capabilities == ["embedding"]


def test_heads_can_differ_from_layer_to_layer(tmp_path: Path) -> None:
    model = read(
        tmp_path,
        lambda w: w.add_block_count(3),
        lambda w: w.add_embedding_length(32),
        lambda w: w.add_head_count([0, 4, 4]),
        lambda w: w.add_head_count_kv([0, 4, 2]),
        architecture="jamba",
    )
    assert (model.head_count, model.head_count_kv, model.key_length, model.is_hybrid) == (4, [0, 4, 2], 8, True)
    assert model.kv_bytes_per_token == 6 * (8 + 8) * 2


def test_recommended_sampling_is_read(tmp_path: Path) -> None:
    model = read(
        tmp_path,
        lambda w: w.add_float32("general.sampling.temp", 0.5),
        lambda w: w.add_int32("general.sampling.top_k", 20),
    )
    assert model.sampling == {"temp": 0.5, "top_k": 20}


@pytest.mark.parametrize(
    ("fill", "architecture", "kind"),
    [
        (lambda w: w.add_type("adapter"), "llama", "adapter"),
        (lambda w: w.add_type("mmproj"), "clip", "projector"),
        (lambda _: None, "clip", "projector"),
    ],
)
def test_what_is_no_model_is_told_apart_and_can_do_nothing(
    fill: Fill, architecture: str, kind: str, tmp_path: Path
) -> None:
    model = read(tmp_path, fill, architecture=architecture)
    assert (model.kind, model.capabilities) == (kind, [])


def test_a_file_without_weights_is_a_vocabulary(tmp_path: Path) -> None:
    assert read(tmp_path, tensors=False).kind == "vocabulary"


def test_without_a_stated_file_type_the_largest_tensors_name_the_quantization(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    for number in range(5):
        writer.add_tensor(f"small.{number}", np.zeros(4, np.float32))
    writer.add_tensor("large", np.zeros((64, 144), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = read_metadata(path)
    assert (model.quantization, model.parameter_count) == ("Q4_K", 20 + 64 * 256)


def test_values_of_an_unexpected_type_count_as_absent(tmp_path: Path) -> None:
    model = read(
        tmp_path,
        lambda w: w.add_string("llama.context_length", "many"),
        lambda w: w.add_uint32("general.name", 7),
        lambda w: w.add_bool("llama.block_count", True),
        lambda w: w.add_array("llama.embedding_length", [1, 2]),
    )
    assert (model.context_length, model.name, model.block_count, model.embedding_length) == (None, None, None, None)


def test_keys_behind_a_long_vocabulary_are_read(tmp_path: Path) -> None:
    tokens = [f"token {number}" * (1 + number % 30) for number in range(30_000)]
    model = read(
        tmp_path,
        lambda w: w.add_token_list(tokens),
        lambda w: w.add_token_scores([0.5] * len(tokens)),
        lambda w: w.add_token_merges([f"{token} x" for token in tokens]),
        lambda w: w.add_chat_template("the end"),
    )
    assert (model.vocabulary_size, model.chat_template, model.parameter_count) == (30_000, "the end", 96)


def test_a_token_longer_than_any_window_is_stepped_over(tmp_path: Path) -> None:
    model = read(tmp_path, lambda w: w.add_token_list(["a", "b" * 3_000_000, "c"]), lambda w: w.add_name("behind"))
    assert (model.vocabulary_size, model.name) == (3, "behind")


def test_the_tables_of_types_are_those_of_the_gguf_package() -> None:
    # gguf 0.19 says 40 bytes for Q8_1, which no file holds; ggml says 36.
    theirs = {int(kind): (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    theirs.pop(int(gguf.GGMLQuantizationType.Q8_1))
    assert theirs.items() <= {number: tuple(kind) for number, kind in TENSOR_TYPES.items()}.items()
    names = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}
    names.pop(int(gguf.LlamaFileType.GUESSED))
    assert names.items() <= FILE_TYPES.items()
