"""What the fixture ``make_context`` is, for annotations."""

from __future__ import annotations

from collections.abc import Callable

from shimmy.native.context import Context

MakeContext = Callable[..., Context]
