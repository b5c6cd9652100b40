"""A loaded model: weights, vocabulary, tokenizer."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shimmy.errors import InvalidRequest
from shimmy.native.ffi import assign_fields, check, ffi, library, take_string
from shimmy.types import ModelFacts, ModelParams

Progress = Callable[[float], bool]

_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2, "tensor": 3}
_LOAD_MODES = {"auto": -1, "read": 0, "mmap": 1, "mlock": 2, "mmap_mlock": 3, "direct": 4}


def encode_text(text: str, param: str) -> bytes:
    """UTF-8 of ``text``; raises InvalidRequest naming ``param`` on a lone surrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{param} is not valid Unicode: {error.reason}", param=param) from error


def raw_model_params(params: ModelParams) -> tuple[Any, Any]:
    """A filled ``shimmy_model_params *``, and what must live as long. Raises InvalidRequest for a value that fits no C type."""
    raw = ffi.new("shimmy_model_params *")
    library().shimmy_model_default_params(raw)
    split = ffi.new("float[]", list(params.tensor_split) or [0.0])
    names = [ffi.new("char[]", encode_text(name, "device")) for name in params.devices or ()]
    devices = ffi.new("char *[]", names or [ffi.NULL])
    assign_fields(
        raw,
        n_gpu_layers=params.n_gpu_layers,
        split_mode=_SPLIT_MODES[params.split_mode],
        main_gpu=params.main_gpu,
        load_mode=_LOAD_MODES[params.load_mode],
        tensor_split=split,
        n_tensor_split=len(params.tensor_split),
        devices=devices,
        n_devices=0 if params.devices is None else len(params.devices) or -1,
        n_cpu_moe=params.n_cpu_moe,
        use_extra_bufts=params.use_extra_bufts,
        no_host=params.no_host,
        check_tensors=params.check_tensors,
    )
    return raw, (split, names, devices)


class Model:
    """Owns one ``shimmy_model``. May be shared by threads; ``close`` only after its contexts."""

    def __init__(self, path: Path, params: ModelParams, progress: Progress | None = None) -> None:
        """Load ``path`` (the first part of a split model).

        ``progress`` gets 0..1 and returns False to cancel. Raises ModelFailed, InsufficientMemory, Cancelled, InvalidRequest.
        """
        raw, _kept = raw_model_params(params)
        callback = ffi.NULL
        if progress is not None:
            callback = ffi.callback("bool(float, void *)", lambda fraction, _: progress(fraction), error=False)
        out = ffi.new("shimmy_model **")
        check(library().shimmy_model_load(os.fsencode(path), raw, callback, ffi.NULL, out))
        self._handle: Any = out[0]
        facts = ffi.new("char **")
        check(library().shimmy_model_facts(self._handle, facts))
        self.facts = msgspec.json.decode(take_string(facts), type=ModelFacts)

    @property
    def handle(self) -> Any:
        """The ``shimmy_model *``, for other files of this room."""
        return self._handle

    def check_draft(self, draft: Model) -> None:
        """Raise InvalidRequest (param "draft_model"), saying how their vocabularies differ, unless ``draft`` can guess tokens of this one."""
        check(library().shimmy_model_check_draft(self._handle, draft.handle))

    def close(self) -> None:
        """Free the weights. Twice is allowed."""
        library().shimmy_model_free(self._handle)
        self._handle = ffi.NULL

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids of ``text``; with BOS and EOS where the model adds them, special tokens recognised if asked."""
        data = encode_text(text, "prompt")
        capacity = len(data) // 2 + 16
        count = ffi.new("int32_t *")
        while True:
            ids = ffi.new("int32_t[]", capacity)
            status = library().shimmy_model_tokenize(
                self._handle, data, len(data), add_special, parse_special, ids, capacity, count
            )
            check(status)
            if count[0] <= capacity:
                return ffi.unpack(ids, count[0]) if count[0] else []
            capacity = count[0]

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> bytes:
        """The bytes of ``tokens``, not always whole UTF-8; raises InvalidRequest on an id out of range."""
        try:
            ids = ffi.from_buffer("int32_t[]", array("i", tokens))
        except OverflowError as error:
            raise InvalidRequest("a token id is outside the vocabulary", param="tokens") from error
        capacity = 8 * len(tokens) + 16  # bytes
        count = ffi.new("int32_t *")
        while True:
            text = ffi.new("char[]", capacity)
            check(library().shimmy_model_detokenize(self._handle, ids, len(tokens), special, text, capacity, count))
            if count[0] <= capacity:
                return bytes(ffi.buffer(text, count[0]))
            capacity = count[0]

    def piece(self, token: int) -> bytes:
        """The bytes of one token as it stands inside a text; b"" for a special token. Raises InvalidRequest out of range."""
        if not 0 <= token < self.facts.n_vocab:
            raise InvalidRequest("a token id is outside the vocabulary", param="tokens")
        capacity = 64
        count = ffi.new("int32_t *")
        while True:
            text = ffi.new("char[]", capacity)
            check(library().shimmy_model_piece(self._handle, token, text, capacity, count))
            if count[0] <= capacity:
                return bytes(ffi.buffer(text, count[0]))
            capacity = count[0]
