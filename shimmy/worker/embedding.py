"""Embeddings in a worker: the context they are computed in, and from a request to a job."""

from __future__ import annotations

import re

from shimmy.engine.embedding_job import EmbeddingJob, Pooling
from shimmy.errors import ContextLengthExceeded, InsufficientMemory, InvalidRequest
from shimmy.native.embedder import Embedder, EmbedderFacts
from shimmy.native.model import Model
from shimmy.types import MAX_INPUTS, ContextParams, EmbedRequest, ModelFacts, RerankRequest
from shimmy.worker.host_memory import free_memory
from shimmy.worker.sizing import choose_embedder
from shimmy.worker.tokens import MAX_INPUT, MAX_INPUTS_TEXT, check_size, check_tokens, text_size, tokenize

N_SEQ_MAX = 32  # texts of one step
_MAX_ANSWER = 64 * 2**20  # bytes of all vectors of a request
_SHORT = 32  # tokens
_MARKS = re.compile(r"\{query\}|\{document\}")


class EmbedderMaker:
    """Makes embedding contexts as long as the texts ask for. Engine thread only, and while the model is loaded."""

    def __init__(self, model: Model, params: ContextParams, kv_bytes_per_token: int | None) -> None:
        self._model = model
        self._params = params
        self._kv_bytes_per_token = kv_bytes_per_token
        self._whole = False

    @property
    def n_ctx_train(self) -> int:
        """The longest text of the model itself, in tokens."""
        return max(self._model.facts.n_ctx_train, 1)

    def prove(self) -> EmbedderFacts:
        """Make a small context and drop it. Raises InsufficientMemory, InvalidRequest."""
        embedder = self(_SHORT)
        embedder.close()
        return embedder.facts

    def __call__(self, longest: int) -> Embedder:
        """A context for texts of ``longest`` tokens. Raises InsufficientMemory, InvalidRequest."""
        embedder = self._make(longest)
        if embedder.facts.whole != self._whole:  # known from the first one on
            self._whole = embedder.facts.whole
            if longest > embedder.facts.n_batch:
                embedder.close()
                embedder = self._make(longest)
        return embedder

    def _make(self, longest: int) -> Embedder:
        facts = self._model.facts
        n_ctx, n_batch = choose_embedder(
            self._params, facts, self._kv_bytes_per_token, longest, free_memory(), whole=self._whole
        )
        n_seq_max = 1 if facts.is_recurrent or facts.is_hybrid else N_SEQ_MAX  # a state for each, and no batching
        try:
            return Embedder(
                self._model,
                self._params,
                n_ctx=n_ctx,
                n_batch=n_batch,
                n_seq_max=n_seq_max,
                rank=facts.pooling == "rank",
            )
        except InsufficientMemory as error:
            message = f"embedding a text of {longest} tokens does not fit into memory: send shorter texts, or free some"
            raise InsufficientMemory(message, available=free_memory()) from error


def prepare_embedding(request: EmbedRequest, model: Model, n_ctx: int) -> EmbeddingJob:
    """Everything that can be wrong with a request is found here; ``n_ctx``: the most tokens of a text.

    Raises InvalidRequest (naming the field), ContextLengthExceeded.
    """
    facts = model.facts
    if facts.pooling == "rank":
        raise InvalidRequest("this model ranks documents and makes no embeddings: use rerank", param="model")
    if not request.inputs:
        raise InvalidRequest("input is empty: give at least one text", param="input")
    if len(request.inputs) > MAX_INPUTS:
        raise InvalidRequest(f"input has {len(request.inputs)} texts; {MAX_INPUTS} are allowed", param="input")
    pooling: Pooling = request.pooling or _usual_pooling(facts)
    _check_dimensions(request, facts)
    check_size(
        sum(text_size(text, "input") for text in request.inputs if isinstance(text, str)), "input", MAX_INPUTS_TEXT
    )
    texts = [_text_tokens(model, text, f"input {number}", n_ctx) for number, text in enumerate(request.inputs)]
    n_vectors = sum(map(len, texts)) if pooling == "none" else len(texts)
    size = 4 * n_vectors * (request.dimensions or facts.n_embd_out)
    if size > _MAX_ANSWER:
        raise InvalidRequest(
            f"the vectors would take {size >> 20} MiB and {_MAX_ANSWER >> 20} are allowed: send fewer texts at once",
            param="input",
        )
    return EmbeddingJob(request.id, texts, pooling, dimensions=request.dimensions, normalize=request.normalize)


def prepare_rerank(request: RerankRequest, model: Model, n_ctx: int) -> EmbeddingJob:
    """As ``prepare_embedding``, for a model with a classifier."""
    if model.facts.pooling != "rank":
        raise InvalidRequest("this model does not rank documents: use one made for it (a reranker)", param="model")
    if not request.query:
        raise InvalidRequest("query is empty", param="query")
    if not request.documents:
        raise InvalidRequest("documents is empty: give at least one", param="documents")
    if len(request.documents) > MAX_INPUTS:
        raise InvalidRequest(
            f"documents has {len(request.documents)} texts; {MAX_INPUTS} are allowed", param="documents"
        )
    if request.top_n is not None and request.top_n < 1:
        raise InvalidRequest("top_n must be 1 or more", param="top_n")
    texts = _pairs(model, request.query, request.documents, n_ctx)
    return EmbeddingJob(request.id, texts, "rank", normalize=False, top_n=request.top_n)


def _usual_pooling(facts: ModelFacts) -> Pooling:
    """The file's; it says none, or nothing, where nobody thought of one vector for a text."""
    return facts.pooling if facts.pooling not in (None, "none") else "mean"


def _check_dimensions(request: EmbedRequest, facts: ModelFacts) -> None:
    if request.dimensions is None:
        return
    if request.pooling == "none":
        raise InvalidRequest("dimensions has no meaning with pooling none: leave it out", param="dimensions")
    if not 1 <= request.dimensions <= facts.n_embd_out:
        raise InvalidRequest(f"dimensions must be 1..{facts.n_embd_out}", param="dimensions")


def _text_tokens(model: Model, text: str | list[int], what: str, n_ctx: int) -> list[int]:
    if not text:
        raise InvalidRequest(f"{what} is empty", param="input")
    if isinstance(text, list):
        return check_tokens(model, _fitting(text, n_ctx), "input")
    tokens = tokenize(model, text, "input", n_ctx, limit=MAX_INPUT)
    if not tokens:
        raise InvalidRequest(f"{what} has no tokens", param="input")
    return _fitting(tokens, n_ctx)


def _fitting(tokens: list[int], n_ctx: int) -> list[int]:
    """``tokens`` themselves. Raises ContextLengthExceeded."""
    if len(tokens) > n_ctx:
        raise ContextLengthExceeded(n_prompt_tokens=len(tokens), n_ctx=n_ctx)
    return tokens


def _pairs(model: Model, query: str, documents: list[str], n_ctx: int) -> list[list[int]]:
    """A query and each document as the model was trained on them (llama-server's format_prompt_rerank)."""
    size = text_size(query, "query")
    all_documents = sum(text_size(document, "documents") for document in documents)
    template = model.facts.rerank_template
    if template is not None:
        # The query is part of each text: of tokens that were made alone the model knows nothing.
        check_size(all_documents + len(documents) * (size + len(template)), "documents", MAX_INPUTS_TEXT)
        texts = (_filled(template, query, document) for document in documents)
        return [
            _fitting(tokenize(model, text, "documents", n_ctx, add_special=False, limit=MAX_INPUT), n_ctx)
            for text in texts
        ]
    check_size(all_documents, "documents", MAX_INPUTS_TEXT)
    begin, middle, end = _separators(model.facts)
    plain = {"add_special": False, "parse_special": False}
    before = _fitting([*begin, *tokenize(model, query, "query", n_ctx, limit=MAX_INPUT, **plain), *middle], n_ctx)
    return [
        _fitting([*before, *tokenize(model, document, "documents", n_ctx, limit=MAX_INPUT, **plain), *end], n_ctx)
        for document in documents
    ]


def _filled(template: str, query: str, document: str) -> str:
    texts = {"{query}": query, "{document}": document}  # in one go: a query may hold the other's mark
    return _MARKS.sub(lambda mark: texts[mark[0]], template)


def _separators(facts: ModelFacts) -> tuple[list[int], list[int], list[int]]:
    """The tokens before a query, between it and a document, and behind that."""
    special = facts.special_tokens
    end = special["eos"] if special["eos"] is not None else special["sep"]
    bos, sep = special["bos"], special["sep"]
    begin = [bos] if facts.add_bos and bos is not None else []
    eos = [end] if facts.add_eos and end is not None else []
    between = [sep] if facts.add_sep and sep is not None else []
    return begin, [*eos, *between], eos
