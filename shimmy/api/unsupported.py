"""Fields that clients may send because others know them, and that mean something that is not done here."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from shimmy.errors import InvalidRequest

Neutral = dict[str, tuple[Any, ...]]


class UnsupportedFields(msgspec.Struct, kw_only=True):
    """What no route offers: a request that asks for it is refused, not answered as if it had not.

    audio, modalities, prediction, best_of, functions, function_call, web_search_options    not offered: only values that ask for nothing are taken
    """

    audio: Any = None
    modalities: Any = None
    prediction: Any = None
    best_of: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None

    neutral: ClassVar[Neutral] = {
        "audio": (),
        "modalities": (["text"], []),
        "prediction": (),
        "best_of": (1,),
        "functions": ([],),
        "function_call": ("none",),
        "web_search_options": (),
    }
    """The fields that are not offered, with the values besides null that ask for nothing; a route adds its own."""

    def check_supported(self) -> None:
        """Raise InvalidRequest for the first field that asks for something."""
        for name, neutral in self.neutral.items():
            value = getattr(self, name)
            if value is not None and not any(_same(value, each) for each in neutral):
                raise InvalidRequest(f"{name}: it is not supported here; leave it out", param=name)


def _same(value: object, other: object) -> bool:
    """Python takes 0 for false."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
