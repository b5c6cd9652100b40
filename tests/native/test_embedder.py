"""Vectors of texts: each pooling against numpy, batches against single texts, and everything that llama.cpp would abort on."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray

from shimmy.errors import Cancelled, GenerationFailed, InvalidRequest, KvCacheFull
from shimmy.native.context import Context
from shimmy.native.embedder import Embedder, EmbedRun, SequencePooling
from shimmy.native.model import Model
from shimmy.types import ContextParams, ModelParams
from tests.tiny.models import write_causal_reranker, write_llama, write_reranker

TEXTS = ["the cat sat on the mat", "hello", "once upon a time there was a king who had three daughters", "hello world"]
WIDTH = 64
POOLINGS: list[SequencePooling] = ["mean", "cls", "last"]

MakeEmbedder = Callable[..., Embedder]
Floats = NDArray[np.float32]


@pytest.fixture
def make_embedder() -> Iterator[MakeEmbedder]:
    """Small embedding contexts, closed after the test."""
    with ExitStack() as stack:

        def make(
            model: Model, *, n_ctx: int = 512, n_batch: int = 128, n_seq_max: int = 4, rank: bool = False, **params: Any
        ) -> Embedder:
            settings = ContextParams(**{"n_threads": 1, **params})
            embedder = Embedder(model, settings, n_ctx=n_ctx, n_batch=n_batch, n_seq_max=n_seq_max, rank=rank)
            return stack.enter_context(closing(embedder))

        yield make


@pytest.fixture(params=["embedding", "llama", "swa", "moe", "recurrent", "hybrid"])
def model(request: pytest.FixtureRequest) -> Model:
    """An encoder, and each kind of model that generates text."""
    value: Model = request.getfixturevalue(request.param)
    return value


def floats(data: bytes) -> Floats:
    return np.frombuffer(data, np.float32)


def by_hand(rows: Floats, pooling: str) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    pooled: dict[str, NDArray[np.float64]] = {"mean": wide.mean(axis=0), "cls": wide[0], "last": wide[-1]}
    return pooled[pooling]


def embed_all(embedder: Embedder, sequences: list[list[int]]) -> list[dict[SequencePooling, Floats]]:
    """All of ``sequences`` in one step, with every pooling; the sequences are empty afterwards."""
    embedder.step([EmbedRun(number, tokens) for number, tokens in enumerate(sequences)])
    found = [
        {pooling: floats(embedder.read(number, pooling)) for pooling in POOLINGS} for number in range(len(sequences))
    ]
    embedder.clear()
    return found


def assert_same(found: dict[SequencePooling, Floats], wanted: dict[SequencePooling, Floats]) -> None:
    for pooling in POOLINGS:
        np.testing.assert_allclose(found[pooling], wanted[pooling], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_pooled_vector_is_what_numpy_pools_from_the_tokens(
    model: Model, pooling: SequencePooling, make_embedder: MakeEmbedder
) -> None:
    embedder = make_embedder(model)
    sequences = [model.tokenize(text) for text in TEXTS]
    embedder.step([EmbedRun(number, tokens) for number, tokens in enumerate(sequences)])
    for number, tokens in enumerate(sequences):
        rows = floats(embedder.rows(number, len(tokens))).reshape(len(tokens), WIDTH)
        wanted = by_hand(rows, pooling)
        np.testing.assert_allclose(floats(embedder.read(number, pooling)), wanted, rtol=1e-5, atol=1e-6)
        unit = floats(embedder.read(number, pooling, normalize=True))
        np.testing.assert_allclose(unit, wanted / np.linalg.norm(wanted), rtol=1e-5, atol=1e-6)


def test_different_texts_have_different_vectors_and_word_order_counts(
    model: Model, make_embedder: MakeEmbedder
) -> None:
    texts = ["the cat sat", "sat the cat", "a king"]
    found = embed_all(make_embedder(model), [model.tokenize(text) for text in texts])
    poolings: list[SequencePooling] = ["mean", "last"]
    for pooling in poolings:
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(found[one][pooling] - found[other][pooling]).max() > 0.01


def test_a_batch_gives_each_text_what_it_gets_alone(model: Model, make_embedder: MakeEmbedder) -> None:
    embedder = make_embedder(model)
    sequences = [model.tokenize(text) for text in TEXTS]
    together = embed_all(embedder, sequences)
    for tokens, wanted in zip(sequences, together, strict=True):
        assert_same(embed_all(embedder, [tokens])[0], wanted)


def test_a_sequence_may_come_in_parts_beside_others_where_attention_looks_back_only(
    wide_decoder: Model, make_embedder: MakeEmbedder
) -> None:
    embedder = make_embedder(wide_decoder, flash_attn="off")
    sequences = [wide_decoder.tokenize(text * 3) for text in TEXTS]
    whole = embed_all(embedder, sequences)
    for start in range(0, max(map(len, sequences)), 7):
        embedder.step(
            [
                EmbedRun(number, tokens[start : start + 7])
                for number, tokens in enumerate(sequences)
                if start < len(tokens)
            ]
        )
    for number, wanted in enumerate(whole):
        assert_same({pooling: floats(embedder.read(number, pooling)) for pooling in POOLINGS}, wanted)


def test_a_released_sequence_starts_anew_and_the_others_stay(model: Model, make_embedder: MakeEmbedder) -> None:
    embedder = make_embedder(model)
    first, second = (model.tokenize(text) for text in TEXTS[:2])
    wanted = embed_all(embedder, [first, second])
    embedder.step([EmbedRun(0, second), EmbedRun(1, first)])
    embedder.release(0)
    embedder.step([EmbedRun(0, first)])
    for number in (0, 1):
        assert_same({pooling: floats(embedder.read(number, pooling)) for pooling in POOLINGS}, wanted[0])
    embedder.release(0)
    with pytest.raises(InvalidRequest, match="empty"):
        embedder.read(0, "mean")


def test_dimensions_cut_before_the_length_is_taken(embedding: Model, make_embedder: MakeEmbedder) -> None:
    embedder = make_embedder(embedding)
    embedder.step([EmbedRun(0, embedding.tokenize(TEXTS[0]))])
    full = floats(embedder.read(0, "mean"))
    np.testing.assert_array_equal(floats(embedder.read(0, "mean", dimensions=10)), full[:10])
    cut = floats(embedder.read(0, "mean", dimensions=10, normalize=True))
    np.testing.assert_allclose(cut, full[:10] / np.linalg.norm(full[:10]), rtol=1e-5)
    assert math.isclose(float(np.linalg.norm(cut)), 1.0, rel_tol=1e-5)
    for wrong in (0, -1, WIDTH + 1, 2**31 - 1):
        with pytest.raises(InvalidRequest) as raised:
            embedder.read(0, "mean", dimensions=wrong)
        assert raised.value.facts["param"] == "dimensions"


@pytest.mark.parametrize("n_labels", [1, 3])
def test_a_classifier_s_scores_are_numpy_s_from_its_weights(
    n_labels: int, tmp_path: Path, make_embedder: MakeEmbedder
) -> None:
    path = write_reranker(tmp_path / "reranker.gguf", n_labels=n_labels)
    weights = {tensor.name: np.array(tensor.data, np.float64) for tensor in GGUFReader(path).tensors}
    with closing(Model(path, ModelParams())) as model, ExitStack() as stack:
        ranks = stack.enter_context(closing(make_embedder(model, rank=True)))
        hidden = stack.enter_context(closing(make_embedder(model)))
        assert ranks.facts.width == n_labels
        sequences = [model.tokenize(text) for text in TEXTS]
        for embedder in (ranks, hidden):
            embedder.step([EmbedRun(number, tokens) for number, tokens in enumerate(sequences)])
        for number in range(len(sequences)):
            first = floats(hidden.read(number, "cls")).astype(np.float64)
            inner = np.tanh(weights["cls.weight"] @ first + weights["cls.bias"])
            wanted = weights["cls.output.weight"] @ inner + weights["cls.output.bias"]
            np.testing.assert_allclose(floats(ranks.read(number, "rank")), wanted, rtol=2e-3, atol=2e-3)
            assert ranks.rows(number, 1) == b""
        with pytest.raises(InvalidRequest, match="classifier"):
            ranks.read(0, "mean")
        with pytest.raises(InvalidRequest, match="mean, cls or last"):
            hidden.read(0, "rank")


def test_a_causal_classifier_scores_the_last_token_also_of_a_text_in_parts(
    tmp_path: Path, make_embedder: MakeEmbedder
) -> None:
    path = write_causal_reranker(tmp_path / "qwen3.gguf")
    weight = next(np.array(t.data, np.float64) for t in GGUFReader(path).tensors if t.name == "cls.output.weight")
    with closing(Model(path, ModelParams())) as model, ExitStack() as stack:
        ranks = stack.enter_context(closing(make_embedder(model, rank=True)))
        hidden = stack.enter_context(closing(make_embedder(model)))
        tokens = model.tokenize(TEXTS[2] * 3)
        hidden.step([EmbedRun(0, tokens)])
        logits = weight @ floats(hidden.read(0, "last")).astype(np.float64)
        wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()  # qwen3 gives probabilities
        for start in range(0, len(tokens), 11):
            ranks.step([EmbedRun(0, tokens[start : start + 11]), EmbedRun(1, tokens[:5])])
            ranks.release(1)
        np.testing.assert_allclose(floats(ranks.read(0, "rank")), wanted, atol=5e-3)
        assert 0.001 < wanted[0] < 0.999


def test_a_decoder_that_looks_both_ways_reads_a_text_whole_and_generates_nothing(
    tmp_path: Path, make_embedder: MakeEmbedder
) -> None:
    path = write_llama(tmp_path / "both.gguf", causal=False)
    with closing(Model(path, ModelParams())) as model, closing(make_embedder(model)) as embedder:
        assert embedder.facts.whole
        sequences = [model.tokenize(text) for text in ("the cat sat on", "the cat ran on")]
        embedder.step([EmbedRun(number, tokens) for number, tokens in enumerate(sequences)])
        first = [floats(embedder.read(number, "cls")) for number in range(2)]
        assert np.abs(first[0] - first[1]).max() > 0.01  # the first token has seen the words behind it
        with pytest.raises(InvalidRequest, match="whole"):
            embedder.step([EmbedRun(0, [3])])
        with pytest.raises(InvalidRequest) as raised:
            Context(model, ContextParams(n_threads=1), n_ctx=128, n_seq_max=1)
        assert raised.value.facts["param"] == "model"


def test_numbers_that_are_not_finite_are_an_error_and_no_vector(tmp_path: Path, make_embedder: MakeEmbedder) -> None:
    path = write_reranker(tmp_path / "nan.gguf")
    offset = next(tensor.data_offset for tensor in GGUFReader(path).tensors if tensor.name == "token_embd_norm.weight")
    data = bytearray(path.read_bytes())
    data[offset : offset + 4] = np.float32("nan").tobytes()
    path.write_bytes(data)
    with closing(Model(path, ModelParams())) as model, closing(make_embedder(model)) as embedder:
        embedder.step([EmbedRun(0, [5, 6])])
        with pytest.raises(GenerationFailed, match="not finite"):
            embedder.read(0, "mean")


def test_more_labels_than_a_hidden_state_has_numbers_are_refused(tmp_path: Path) -> None:
    path = write_reranker(tmp_path / "labels.gguf", n_labels=WIDTH + 1)
    with closing(Model(path, ModelParams())) as model, pytest.raises(InvalidRequest, match="labels"):
        Embedder(model, ContextParams(n_threads=1), n_ctx=64, n_batch=64, n_seq_max=1, rank=True)


def test_a_step_over_the_batch_names_both_counts(model: Model, make_embedder: MakeEmbedder) -> None:
    embedder = make_embedder(model, n_batch=32)
    for runs in ([EmbedRun(0, [3] * 33)], [EmbedRun(0, [3] * 16), EmbedRun(1, [3] * 17)]):
        with pytest.raises(InvalidRequest, match=r"33 tokens.*32"):
            embedder.step(runs)
    embedder.step([EmbedRun(0, [3] * 16), EmbedRun(1, [3] * 16)])


def test_a_text_longer_than_the_context_names_both_counts(llama: Model, make_embedder: MakeEmbedder) -> None:
    embedder = make_embedder(llama, n_ctx=256, n_batch=128)
    embedder.step([EmbedRun(0, [3] * 128)])
    embedder.step([EmbedRun(0, [3] * 128)])
    with pytest.raises(InvalidRequest, match=r"257 tokens.*256"):
        embedder.step([EmbedRun(0, [3])])
    with pytest.raises(KvCacheFull):
        embedder.step([EmbedRun(1, [3])])
    embedder.step([EmbedRun(0, [3])])  # a failed step has emptied all


def test_positions_beyond_the_table_of_an_encoder_are_refused(embedding: Model, make_embedder: MakeEmbedder) -> None:
    embedder = make_embedder(embedding, n_ctx=1024, n_batch=1024)
    embedder.step([EmbedRun(0, [5] * 256)])
    embedder.clear()
    with pytest.raises(InvalidRequest, match=r"257 tokens.*256"):
        embedder.step([EmbedRun(0, [5] * 257)])


def test_an_encoder_takes_a_text_whole(embedding: Model, make_embedder: MakeEmbedder) -> None:
    embedder = make_embedder(embedding)
    assert embedder.facts.whole
    embedder.step([EmbedRun(0, [5, 6])])
    with pytest.raises(InvalidRequest, match="whole"):
        embedder.step([EmbedRun(0, [7])])


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [EmbedRun(0, [])],
        [EmbedRun(0, [-1])],
        [EmbedRun(0, [3, 2**31 - 1])],
        [EmbedRun(-1, [3])],
        [EmbedRun(4, [3])],
        [EmbedRun(0, [3]), EmbedRun(0, [4])],
    ],
    ids=str,
)
def test_a_step_that_makes_no_sense_is_refused_and_changes_nothing(
    runs: list[EmbedRun], model: Model, make_embedder: MakeEmbedder
) -> None:
    embedder = make_embedder(model)
    embedder.step([EmbedRun(2, [3, 4])])
    before = embedder.read(2, "mean")
    with pytest.raises(InvalidRequest):
        embedder.step(runs)
    assert embedder.read(2, "mean") == before
    for wrong in (-1, 4):
        with pytest.raises(InvalidRequest):
            embedder.read(wrong, "mean")
        with pytest.raises(InvalidRequest):
            embedder.release(wrong)


def test_an_interrupted_step_is_cancelled_until_the_interrupt_is_taken_back(
    model: Model, make_embedder: MakeEmbedder
) -> None:
    embedder = make_embedder(model)
    thread = threading.Thread(target=embedder.interrupt)
    thread.start()
    thread.join()
    for _ in range(2):
        with pytest.raises(Cancelled):
            embedder.step([EmbedRun(0, [3, 4])])
    embedder.interrupt(False)
    embedder.step([EmbedRun(0, [3, 4])])
    assert len(embedder.read(0, "mean")) == 4 * WIDTH


@pytest.mark.parametrize(
    ("wrong", "param"),
    [({"n_batch": 0}, "n_batch"), ({"n_seq_max": 257}, "n_seq_max"), ({"spin": 101}, "spin")],
    ids=str,
)
def test_a_wrong_parameter_is_named(
    wrong: dict[str, Any], param: str, embedding: Model, make_embedder: MakeEmbedder
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        make_embedder(embedding, **wrong)
    assert raised.value.facts["param"] == param
