"""What is asked of a model."""

from __future__ import annotations

from typing import Literal

import msgspec

from shimmy.types.chat import ChatParams, Message
from shimmy.types.sampling import SamplingParams

MAX_STOPS = 16
MAX_INPUTS = 2048  # of an embedding or rerank request


class Trigger(msgspec.Struct, frozen=True, array_like=True):
    """What wakes a lazy grammar, which then takes in the text from the trigger's start.

    word          the text ``value``, anywhere
    token         the token ``token``
    pattern       an ECMAScript regular expression, anywhere in the last 4096 bytes; from its first group that holds something
    pattern_full  the same for the whole text, while that has at most 4096 bytes
    """

    kind: Literal["word", "token", "pattern", "pattern_full"]
    value: str = ""
    token: int | None = None


class Reasoning(msgspec.Struct, frozen=True, array_like=True):
    """The parts of an answer in which the model thinks: from ``start`` to the next of ``ends``, of which there is one at least.

    ``begun``: the end of the prompt has begun one.
    """

    start: str
    ends: tuple[str, ...]
    begun: bool = False


class GenerateRequest(msgspec.Struct, frozen=True, array_like=True):
    """One generation. Exactly one of ``prompt``, ``prompt_tokens`` and ``messages`` is given.

    max_tokens   >= 0; None: up to the context
    stop         up to 16 strings that end the answer and are not part of it
    cache_prompt whether cells of earlier requests may be reused
    grammar      GBNF that the whole answer matches; json_schema: a JSON schema, as text, whose JSON it is. At most one of the two
    strict       a json_schema with a keyword that answers cannot be held to is refused; else it is reported with the answer
    suffix       the text behind the gap that the answer fills, for models made for it; the prompt stands before it
    lora         (index among the loaded adapters, scale); None: as they were loaded; 0 is off, and so is what is not named
    chat         what to do with ``messages`` and their answer
    partition    cells are reused between requests of equal partitions alone: what one asker sent cannot be timed by another
    return_progress  also Progress events: when the first step begins, and after each that computes a part of the prompt
    """

    id: int
    prompt: str | None = None
    prompt_tokens: list[int] | None = None
    messages: list[Message] | None = None
    max_tokens: int | None = None
    stop: list[str] = []
    sampling: SamplingParams = SamplingParams()
    cache_prompt: bool = True
    lora: list[tuple[int, float]] | None = None
    grammar: str | None = None
    json_schema: str | None = None
    suffix: str | None = None
    chat: ChatParams = ChatParams()
    return_progress: bool = False
    partition: str = ""
    strict: bool = False


class EmbedRequest(msgspec.Struct, frozen=True, array_like=True):
    """Vectors of ``inputs``, each a text or its tokens.

    inputs      1 to 2048, none of them empty
    pooling     how the tokens' vectors become one; None: the model file's, else mean; none: all of them, as they are
    dimensions  the first so many numbers of each vector; None: all
    normalize   vectors of length 1, taken after the cut; not with pooling none
    """

    id: int
    inputs: list[str | list[int]]
    pooling: Literal["none", "mean", "cls", "last"] | None = None
    dimensions: int | None = None
    normalize: bool = True


class RerankRequest(msgspec.Struct, frozen=True, array_like=True):
    """How well each of 1 to 2048 ``documents`` answers ``query``; the ``top_n`` best, or all of them."""

    id: int
    query: str
    documents: list[str]
    top_n: int | None = None


class TokenizeRequest(msgspec.Struct, frozen=True, array_like=True):
    """The tokens of ``text``.

    add_special    with those that the model puts around a prompt
    parse_special  the text of a control token is that token
    pieces         also each token's bytes
    """

    id: int
    text: str
    add_special: bool = False
    parse_special: bool = True
    pieces: bool = False


class DetokenizeRequest(msgspec.Struct, frozen=True, array_like=True):
    """The text of ``tokens``, that of control tokens included."""

    id: int
    tokens: list[int]


class TemplateRequest(msgspec.Struct, frozen=True, array_like=True):
    """The prompt that a generation with these ``messages`` would have; ``open_answer``: up to where the answer begins."""

    id: int
    messages: list[Message]
    chat: ChatParams = ChatParams()
    json_schema: str | None = None
    open_answer: bool = True
