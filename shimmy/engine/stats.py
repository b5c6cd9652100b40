"""What an engine has done so far, in numbers."""

from __future__ import annotations

import msgspec


class EngineStats(msgspec.Struct, frozen=True, array_like=True):
    """Counters since the start.

    Times are wall time in ns: of decoding, of sampling, and of all busy turns of the loop, those two included. The CPU clock of
    a thread is not asked, because reading it was measured at 25 us in a virtual machine.
    """

    steps: int = 0
    tokens_drawn: int = 0
    tokens_prefilled: int = 0
    running: int = 0
    waiting: int = 0
    parked: int = 0
    decode_ns: int = 0
    sample_ns: int = 0
    busy_ns: int = 0
    tokens_embedded: int = 0
