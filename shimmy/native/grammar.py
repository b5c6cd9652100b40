"""Grammars: what an answer may look like, compiled for one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shimmy.native.ffi import assign_fields, check, ffi, library
from shimmy.native.model import Model, encode_text
from shimmy.types import Trigger

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
    ) -> None:
        """Compile ``gbnf`` (llama.cpp's notation); a whole answer matches the rule ``root``.

        A ``lazy`` grammar allows everything until a trigger is seen, and takes in the text from that trigger's start.
        ``preserved`` are control tokens that the answer shows: they match by their text, all others only as ``<name>``.
        Raises InvalidRequest: param grammar with line and column, or param triggers.
        """
        text = encode_text(gbnf, "grammar")
        raw = ffi.new("shimmy_grammar_params *")
        raw_triggers = ffi.new("shimmy_trigger[]", max(len(triggers), 1))
        texts = [ffi.new("char[]", encode_text(trigger.value, "triggers")) for trigger in triggers]
        for at, trigger in enumerate(triggers):
            raw_triggers[at].kind = _KINDS[trigger.kind]
            raw_triggers[at].token = -1 if trigger.token is None else trigger.token
            raw_triggers[at].text = texts[at]
        raw_root = ffi.new("char[]", encode_text(root, "grammar"))
        raw_text = ffi.new("char[]", text)
        raw_preserved = ffi.new("int32_t[]", list(preserved) or [0])
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
