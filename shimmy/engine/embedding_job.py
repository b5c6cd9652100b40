"""One request's texts on their way to vectors."""

from __future__ import annotations

import array
from collections.abc import Sequence as Items
from typing import Literal

from shimmy.types import Embedded, Event, Ranked, Reranked, Usage

Kind = Literal["embed", "rerank"]
Pooling = Literal["none", "mean", "cls", "last", "rank"]


class EmbeddingJob:
    """Texts as tokens, what to make of them, and the vectors so far.

    Made by preparation; from ``submit`` on it belongs to the engine thread. With pooling "none" a text's vector is all of its
    tokens' one after another, as they are. With pooling "rank" a text is a query and a document, its vector the classifier's scores.
    """

    __slots__ = ("_missing", "dimensions", "id", "normalize", "pooling", "texts", "top_n", "unread", "vectors")

    def __init__(
        self,
        request_id: int,
        texts: Items[list[int]],
        pooling: Pooling,
        *,
        dimensions: int | None = None,
        normalize: bool = True,
        top_n: int | None = None,
    ) -> None:
        self.id = request_id
        self.texts = texts
        self.pooling = pooling
        self.dimensions = dimensions
        self.normalize = normalize
        self.top_n = top_n
        self.vectors = [bytearray() for _ in texts]
        self.unread = 0  # texts from this one on have not been begun
        self._missing = len(texts)

    def complete(self, index: int, vector: bytes) -> bool:
        """Take the vector of a text (with "none": what its last tokens add). Returns whether it was the last of all."""
        self.vectors[index] += vector
        self._missing -= 1
        return self._missing == 0

    def answer(self, width: int) -> Event:
        """The event that ends the request, once all texts are complete; ``width``: of the model's vectors."""
        usage = Usage(prompt_tokens=sum(map(len, self.texts)))
        if self.pooling != "rank":
            return Embedded(self.id, [bytes(vector) for vector in self.vectors], self.dimensions or width, usage)
        # Of several labels the first says how well they fit (as llama-server takes it).
        scores = [array.array("f", vector[:4])[0] for vector in self.vectors]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])  # stable: equal scores keep their order
        return Reranked(self.id, [Ranked(index, scores[index]) for index in order[: self.top_n]], usage)
