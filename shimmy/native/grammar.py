"""Grammars: what an answer may look like, compiled for one model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from shimmy.native.ffi import assign_fields, check, ffi, library
from shimmy.native.model import Model, encode_text
from shimmy.types import Reasoning, Trigger

_KINDS = {"word": 0, "token": 1, "pattern": 2, "pattern_full": 3}


class Grammar:
    """Owns one ``shimmy_grammar``: compiled once, then never changed, shared by requests and threads.

    ``close`` may come before the samplers that use it are done.
    """

    def __init__(
        self,
        model: Model,
        gbnf: str,
        *,
        root: str = "root",
        lazy: bool = False,
        triggers: Sequence[Trigger] = (),
        preserved: Sequence[int] = (),
        reasoning: Reasoning | None = None,
    ) -> None:
        """Compile ``gbnf`` (llama.cpp's notation); a whole answer matches the rule ``root``.

        A ``lazy`` grammar allows everything until a trigger is seen outside of ``reasoning``, and takes in the text from that
        trigger's start.
        ``preserved`` are control tokens that the answer shows: they match by their text, all others only as ``<name>``.
        Raises InvalidRequest: param grammar with line and column, or param triggers.
        """
        text = encode_text(gbnf, "grammar")
        tokens = range(model.facts.n_vocab)
        raw = ffi.new("shimmy_grammar_params *")
        raw_triggers = ffi.new("shimmy_trigger[]", max(len(triggers), 1))
        texts = [ffi.new("char[]", encode_text(trigger.value, "triggers")) for trigger in triggers]
        for at, trigger in enumerate(triggers):
            raw_triggers[at].kind = _KINDS[trigger.kind]
            raw_triggers[at].token = trigger.token if trigger.token in tokens else -1  # which the library refuses
            raw_triggers[at].text = texts[at]
        raw_root = ffi.new("char[]", encode_text(root, "grammar"))
        raw_text = ffi.new("char[]", text)
        raw_start = ffi.new("char[]", encode_text(reasoning.start if reasoning else "", "reasoning"))
        ends = [ffi.new("char[]", encode_text(end, "reasoning")) for end in reasoning.ends] if reasoning else []
        raw_ends = ffi.new("char *[]", ends)
        raw_preserved = ffi.new("int32_t[]", [token if token in tokens else -1 for token in preserved] or [0])
        assign_fields(
            raw,
            text=raw_text,
            n_text=len(text),
            root=raw_root,
            lazy=lazy,
            triggers=raw_triggers,
            n_triggers=len(triggers),
            preserved=raw_preserved,
            n_preserved=len(preserved),
            reasoning_start=raw_start,
            reasoning_ends=raw_ends,
            n_reasoning_ends=len(ends),
            reasoning_begun=reasoning is not None and reasoning.begun,
        )
        out = ffi.new("shimmy_grammar **")
        check(library().shimmy_grammar_new(model.handle, raw, out))
        self._handle: Any = out[0]

    @property
    def handle(self) -> Any:
        """The ``shimmy_grammar *``, for other files of this room."""
        return self._handle

    @property
    def n_bytes(self) -> int:
        """Memory that it holds now; matching lets it grow by up to 12 MB."""
        size: int = library().shimmy_grammar_bytes(self._handle)
        return size

    def close(self) -> None:
        """Free the grammar, for those who do not use it yet. Twice is allowed."""
        library().shimmy_grammar_free(self._handle)
        self._handle = ffi.NULL


class GrammarCache:
    """The grammars of the last requests to one model, shared with those that come again; the least used goes first.

    Belongs to one thread. What it hands out is valid until its next call: a sampler made by then keeps what it needs.
    """

    def __init__(self, model: Model, *, max_entries: int = 32, max_bytes: int = 128 * 2**20) -> None:
        self._model = model
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._grammars: OrderedDict[tuple[object, ...], Grammar] = OrderedDict()

    def __len__(self) -> int:
        return len(self._grammars)

    def grammar(
        self,
        gbnf: str,
        *,
        lazy: bool = False,
        triggers: Sequence[Trigger] = (),
        preserved: Sequence[int] = (),
        reasoning: Reasoning | None = None,
    ) -> Grammar:
        """``gbnf`` compiled with these options; raises as Grammar does."""
        triggers, preserved = tuple(triggers), tuple(preserved)
        return self._find(
            (gbnf, lazy, triggers, preserved, reasoning),
            lambda: Grammar(self._model, gbnf, lazy=lazy, triggers=triggers, preserved=preserved, reasoning=reasoning),
        )

    def _find(self, key: tuple[object, ...], make: Callable[[], Grammar]) -> Grammar:
        if (grammar := self._grammars.get(key)) is None:
            grammar = self._grammars[key] = make()
        else:
            self._grammars.move_to_end(key)  # and all have grown by matching
        while len(self._grammars) > 1 and (len(self._grammars) > self._max_entries or self._n_bytes > self._max_bytes):
            self._grammars.popitem(last=False)[1].close()
        return grammar

    @property
    def _n_bytes(self) -> int:
        return sum(grammar.n_bytes for grammar in self._grammars.values())
