"""Embeddings and reranking through a worker: right vectors, beside generations, and a line for everything that is wrong."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.errors import Cancelled, ContextLengthExceeded, InsufficientMemory, InvalidRequest, ShimmyError, WorkerDied
from shimmy.native.embedder import Embedder, EmbedRun
from shimmy.native.model import Model
from shimmy.types import MAX_INPUTS, ContextParams, Embedded, EmbedRequest, ModelParams, Reranked, RerankRequest
from shimmy.worker.client import WorkerClient
from shimmy.worker.sizing import choose_embedder
from tests.tiny.models import write_causal_reranker, write_reranker
from tests.wide import WIDE, write_wide
from tests.worker.running import collect, pong_when, ready, request, run, started, stats, within
from tests.worker.test_sizing import facts

TEXTS = ["the cat sat on the mat", "hello", "once upon a time there was a king"]
DOCUMENTS = ["the capital of france", "a dog ran over the hill", "hello world", "the king had three daughters"]


def vectors(event: Embedded) -> list[NDArray[np.float32]]:
    return [np.frombuffer(vector, "<f4") for vector in event.vectors]


def directly(path: Path, texts: list[list[int]], pooling: Any, *, normalize: bool = True) -> list[NDArray[np.float32]]:
    """The vectors of tokens, one text at a time, without a worker."""
    with closing(Model(path, ModelParams())) as model:
        rank = pooling == "rank"
        params = ContextParams(n_threads=1)
        with closing(Embedder(model, params, n_ctx=512, n_batch=256, n_seq_max=1, rank=rank)) as embedder:
            found = []
            for tokens in texts:
                embedder.step([EmbedRun(0, tokens)])
                found.append(np.frombuffer(embedder.read(0, pooling, normalize=normalize), "<f4"))
                embedder.clear()
            return found


def tokenized(path: Path, texts: list[str], **special: bool) -> list[list[int]]:
    with closing(Model(path, ModelParams())) as model:
        return [model.tokenize(text, **special) for text in texts]


def embed(path: Path, *requests: EmbedRequest, **context: Any) -> list[Embedded]:
    """All of ``requests`` at once, in one worker."""

    async def body() -> list[Embedded]:
        async with ready(path, **context) as (worker, _):
            return list(await asyncio.gather(*map(worker.embed, requests)))

    return run(body())


@pytest.mark.parametrize("name", ["tiny_embedding", "tiny_llama"])
def test_vectors_are_those_of_the_texts_in_their_order(name: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    tokens = tokenized(path, TEXTS)
    as_text, as_tokens, last, plain = embed(
        path,
        EmbedRequest(1, list(TEXTS)),
        EmbedRequest(2, list(tokens)),
        EmbedRequest(3, [TEXTS[0], tokens[1]], pooling="last"),
        EmbedRequest(4, list(TEXTS), normalize=False, dimensions=10),
    )
    wanted = directly(path, tokens, "mean")
    for answer in (as_text, as_tokens):
        assert answer.usage.prompt_tokens == sum(map(len, tokens))
        for found, expected in zip(vectors(answer), wanted, strict=True):
            assert np.linalg.norm(found) == pytest.approx(1.0, rel=1e-5)
            np.testing.assert_allclose(found, expected, atol=2e-3)
    for found, expected in zip(vectors(last), directly(path, tokens[:2], "last"), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-3)
    for found, expected in zip(vectors(plain), directly(path, tokens, "mean", normalize=False), strict=True):
        np.testing.assert_allclose(found, expected[:10], atol=1e-2)
    assert (as_text.width, plain.width) == (64, 10)


def test_pooling_none_gives_every_token_s_vector_from_which_the_mean_is_made(tiny_embedding: Path) -> None:
    tokens = tokenized(tiny_embedding, TEXTS)
    none, mean = embed(
        tiny_embedding,
        EmbedRequest(1, list(TEXTS), pooling="none"),
        EmbedRequest(2, list(TEXTS), pooling="mean", normalize=False),
    )
    for ids, rows, expected in zip(tokens, vectors(none), vectors(mean), strict=True):
        table = rows.reshape(len(ids), none.width)
        np.testing.assert_allclose(table.mean(axis=0), expected, atol=1e-5)


def test_a_model_that_only_embeds_is_described_and_refuses_to_generate(tiny_embedding: Path) -> None:
    async def body() -> None:
        async with ready(tiny_embedding) as (worker, loaded):
            assert loaded.context.memory_kind == "none"
            assert loaded.n_ctx == 256
            assert not loaded.has_chat
            with pytest.raises(InvalidRequest, match="makes embeddings and cannot generate text") as raised:
                await collect(worker, request(1))
            assert raised.value.facts["param"] == "model"
            assert len((await worker.embed(EmbedRequest(1, ["hello"]))).vectors) == 1

    run(body())


def test_generations_go_on_with_the_same_text_while_embeddings_are_made(tiny_llama: Path, tmp_path: Path) -> None:
    """With 32 bits, so that the slices of the prompt decide nothing."""
    path = write_wide(tiny_llama, tmp_path / "wide.gguf")

    async def body() -> None:
        async with ready(path, **WIDE) as (worker, _):
            alone = await collect(worker, request(1, max_tokens=200, cache_prompt=False))
            texts: list[str | list[int]] = [TEXTS[2] * 20] * 20
            answers = await asyncio.gather(
                collect(worker, request(2, max_tokens=200, cache_prompt=False)),
                worker.embed(EmbedRequest(3, texts)),
                worker.embed(EmbedRequest(4, ["hello"])),
            )
            assert answers[0].text == alone.text
            assert len(answers[1].vectors) == 20
            pong = await worker.ping()
            assert stats(pong, "tokens_embedded") == answers[1].usage.prompt_tokens + answers[2].usage.prompt_tokens

    run(body())


def test_a_text_longer_than_those_before_makes_the_context_longer(tiny_llama: Path) -> None:
    texts = ["hello", "the cat sat on the mat " * 100, "hello"]

    async def body() -> list[Embedded]:
        async with ready(tiny_llama) as (worker, _):
            return [await worker.embed(EmbedRequest(number, [text])) for number, text in enumerate(texts)]

    first, long, again = run(body())
    assert long.usage.prompt_tokens > 600
    assert first.vectors == again.vectors
    assert first.vectors != long.vectors


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"inputs": []}, "input", "at least one"),
        ({"inputs": [""]}, "input", "input 0 is empty"),
        ({"inputs": ["a", []]}, "input", "input 1 is empty"),
        ({"inputs": [[1, 99_999]]}, "input", "99999"),
        ({"inputs": [[-1]]}, "input", "-1"),
        ({"inputs": ["a"] * (MAX_INPUTS + 1)}, "input", "2048"),
        ({"inputs": ["a"], "dimensions": 0}, "dimensions", r"1\.\.64"),
        ({"inputs": ["a"], "dimensions": 65}, "dimensions", r"1\.\.64"),
        ({"inputs": ["a"], "dimensions": 5, "pooling": "none"}, "dimensions", "pooling none"),
        ({"inputs": ["a" * 300_000]}, "input", "without a break"),
        ({"inputs": [[5] * 250] * 2000, "pooling": "none"}, "input", "fewer texts"),
        ({"inputs": ["a\ud800"]}, "input", "Unicode"),
        ({"inputs": [[1, 2**70]]}, "input", "cannot be sent"),
        ({"inputs": [[1, "a"]]}, "input", "cannot be used"),
        ({"inputs": ["a"], "pooling": "rank"}, "pooling", "Invalid enum value 'rank'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_embedding_request_is_named_and_the_worker_goes_on(
    fields: dict[str, Any], param: str, says: str, tiny_embedding: Path
) -> None:
    async def body() -> None:
        async with ready(tiny_embedding) as (worker, _):
            with pytest.raises(InvalidRequest, match=says) as raised:
                await worker.embed(EmbedRequest(1, **fields))
            assert raised.value.facts["param"] == param
            assert (await worker.embed(EmbedRequest(1, ["a"]))).usage.prompt_tokens == 3

    run(body())


@pytest.mark.parametrize(("name", "n_ctx"), [("tiny_embedding", 256), ("tiny_llama", 300)])
def test_a_text_over_the_context_is_refused_with_both_counts(
    name: str, n_ctx: int, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(name)

    async def body() -> None:
        async with ready(path, n_ctx=n_ctx) as (worker, loaded):
            longest = loaded.n_ctx
            with pytest.raises(ContextLengthExceeded) as raised:
                await worker.embed(EmbedRequest(1, [[5], [5] * (longest + 1)]))
            assert raised.value.facts == {"n_prompt_tokens": longest + 1, "n_ctx": longest}
            await worker.embed(EmbedRequest(1, [[5] * longest]))

    run(body())


def test_leaving_early_ends_the_work_and_so_does_an_abort(tiny_llama: Path) -> None:
    many: list[str | list[int]] = [[5] * 2000] * 500

    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            task = asyncio.create_task(worker.embed(EmbedRequest(1, many)))
            await within(pong_when(worker, lambda pong: stats(pong, "tokens_embedded") > 0))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len((await worker.embed(EmbedRequest(3, ["hello"]))).vectors) == 1
            assert stats(await worker.ping(), "tokens_embedded") < 500 * 2000

            task = asyncio.create_task(worker.embed(EmbedRequest(2, many)))
            await asyncio.sleep(0)
            with pytest.raises(ShimmyError, match="still running"):
                await worker.embed(EmbedRequest(2, ["hello"]))
            worker.abort(2)
            with pytest.raises(Cancelled):
                await task

    run(body())


def test_a_worker_that_dies_is_told_to_who_waits_for_vectors(tiny_llama: Path) -> None:
    async def body() -> None:
        async with started() as worker, ready(tiny_llama) as (other, _):
            with pytest.raises(WorkerDied):
                await WorkerClient().embed(EmbedRequest(1, ["a"]))
            task = asyncio.create_task(other.embed(EmbedRequest(1, [[5] * 2000] * 500)))
            await within(pong_when(other, lambda pong: stats(pong, "tokens_embedded") > 0))
            await other.close()
            with pytest.raises(WorkerDied):
                await task
            assert worker.alive

    run(body())


def pairs(path: Path, query: str) -> list[list[int]]:
    """[CLS] query [SEP] document, which is what the tiny reranker's vocabulary asks for."""
    with closing(Model(path, ModelParams())) as model:
        special = model.facts.special_tokens
        plain = {"add_special": False, "parse_special": False}
        return [
            [special["bos"], *model.tokenize(query, **plain), special["sep"], *model.tokenize(document, **plain)]  # type: ignore[list-item]
            for document in DOCUMENTS
        ]


def rerank(path: Path, *requests: RerankRequest) -> list[Reranked]:
    async def body() -> list[Reranked]:
        async with ready(path) as (worker, _):
            return list(await asyncio.gather(*map(worker.rerank, requests)))

    return run(body())


def test_documents_come_best_first_with_the_classifier_s_scores(tiny_reranker: Path) -> None:
    query = "what is the capital of france"
    everything, best = rerank(tiny_reranker, RerankRequest(1, query, DOCUMENTS), RerankRequest(2, query, DOCUMENTS, 2))
    tokens = pairs(tiny_reranker, query)
    wanted = [float(scores[0]) for scores in directly(tiny_reranker, tokens, "rank", normalize=False)]
    found = [ranked.index for ranked in everything.results]
    scores = [ranked.score for ranked in everything.results]
    assert sorted(found) == list(range(len(DOCUMENTS)))
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([wanted[index] for index in found], abs=1e-2)
    assert len({round(score, 1) for score in wanted}) > 2  # their order says something
    assert [ranked.index for ranked in best.results] == found[:2]
    assert everything.usage.prompt_tokens == sum(map(len, tokens))


def test_a_reranker_s_own_template_makes_the_text(tmp_path: Path) -> None:
    path = write_reranker(tmp_path / "template.gguf", template="[CLS] {document} [SEP] answers {query} [SEP]")
    (answer,) = rerank(path, RerankRequest(1, "the {document} of a king", ["hello {query}", "a dog"]))
    texts = [
        f"[CLS] {document} [SEP] answers the {{document}} of a king [SEP]" for document in ("hello {query}", "a dog")
    ]
    tokens = tokenized(path, texts, add_special=False)
    wanted = [float(scores[0]) for scores in directly(path, tokens, "rank", normalize=False)]
    found = {ranked.index: ranked.score for ranked in answer.results}
    assert [found[0], found[1]] == pytest.approx(wanted, abs=1e-2)


def test_a_causal_reranker_ranks_and_still_generates(tmp_path: Path) -> None:
    path = write_causal_reranker(tmp_path / "qwen3.gguf")

    async def body() -> None:
        async with ready(path) as (worker, _):
            answer = await worker.rerank(RerankRequest(1, "a king", DOCUMENTS))
            texts = [f"query: a king document: {document} answer:" for document in DOCUMENTS]
            tokens = tokenized(path, texts, add_special=False)
            wanted = [float(scores[0]) for scores in directly(path, tokens, "rank", normalize=False)]
            found = {ranked.index: ranked.score for ranked in answer.results}
            assert [found[index] for index in range(len(DOCUMENTS))] == pytest.approx(wanted, abs=1e-2)
            assert len((await collect(worker, request(2, max_tokens=5))).text) > 0

    run(body())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["a"] * (MAX_INPUTS + 1)}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": -1}, "top_n"),
        ({"query": "a" * 300_000}, "query"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_rerank_request_is_named(fields: dict[str, Any], param: str, tiny_reranker: Path) -> None:
    with pytest.raises(InvalidRequest) as raised:
        rerank(tiny_reranker, RerankRequest(1, **{"query": "a", "documents": ["b"], **fields}))
    assert raised.value.facts["param"] == param


def test_a_reranker_does_not_embed_and_an_embedder_does_not_rerank(tiny_reranker: Path, tiny_embedding: Path) -> None:
    with pytest.raises(InvalidRequest, match="use rerank"):
        embed(tiny_reranker, EmbedRequest(1, ["hello"]))
    with pytest.raises(InvalidRequest, match="reranker"):
        rerank(tiny_embedding, RerankRequest(1, "a", ["b"]))
    with pytest.raises(ContextLengthExceeded):
        rerank(tiny_reranker, RerankRequest(1, "a " * 100, ["b", "c " * 200]))


def test_an_embedding_that_no_machine_has_the_memory_for_is_refused_with_its_size() -> None:
    large = facts(n_ctx_train=65_536, n_vocab=250_000)
    with pytest.raises(InsufficientMemory, match="a text of 60000 tokens needs") as raised:
        choose_embedder(ContextParams(), large, 0, 60_000, 4 << 30, whole=True)
    assert int(str(raised.value.facts["estimate"])) > int(str(raised.value.facts["available"])) == 4 << 30


@pytest.mark.parametrize("n_vocab", [500, 49_152, 151_936, 262_144, 2_000_000])
@pytest.mark.parametrize("longest", [1, 32, 33, 8192])
@pytest.mark.parametrize("whole", [True, False])
def test_an_embedding_context_holds_its_texts_and_keeps_its_logits_small(
    n_vocab: int, longest: int, whole: bool
) -> None:
    n_ctx, n_batch = choose_embedder(ContextParams(), facts(n_vocab=n_vocab), 0, longest, 1 << 50, whole=whole)
    assert 32 <= n_batch <= n_ctx
    if whole:
        assert longest <= n_batch
    else:
        assert longest + n_batch <= n_ctx
        assert n_batch <= 512
        assert 4 * n_vocab * n_batch <= 2**28
