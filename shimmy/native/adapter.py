"""A LoRA adapter beside a model's weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from shimmy.errors import InvalidRequest
from shimmy.native.ffi import check, ffi, library, take_string
from shimmy.native.model import Model
from shimmy.types import AdapterFacts


class Adapter:
    """One ``shimmy_adapter``, which belongs to its model and is gone with it."""

    def __init__(self, model: Model, path: Path) -> None:
        """Load a GGUF adapter, before the model's contexts are made.

        Raises InvalidRequest (param "lora") naming the file for one that does not fit the model, InsufficientMemory.
        """
        if not path.is_file():  # a pipe would be waited for without end
            raise InvalidRequest(f"the adapter {path} cannot be used: there is no such file", param="lora")
        self._model = model
        out = ffi.new("shimmy_adapter **")
        try:
            check(library().shimmy_adapter_load(model.handle, os.fsencode(path), out))
        except InvalidRequest as error:
            raise InvalidRequest(f"the adapter {path} cannot be used: {error.message}", param="lora") from error
        self._handle: Any = out[0]
        facts = ffi.new("char **")
        check(library().shimmy_adapter_facts(self._handle, facts))
        self.facts = msgspec.json.decode(take_string(facts), type=AdapterFacts)

    @property
    def handle(self) -> Any:
        """The ``shimmy_adapter *``, for other files of this room."""
        return self._handle
