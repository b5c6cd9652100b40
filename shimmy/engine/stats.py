"""What an engine has done so far, in numbers."""

from __future__ import annotations

import msgspec


class EngineStats(msgspec.Struct, frozen=True, array_like=True):
    """Counters since the start.

    Times are wall time in ns: of decoding, of sampling, and of all busy turns of the loop, those two included. The CPU clock of
    a thread is not asked, because reading it was measured at 25 us in a virtual machine.

    running, waiting, parked, cells_used  as it is now: sequences, sequences, tokens that only the prefix cache holds, cells of n_ctx
    prefix_hits     sequences that found a part of their prompt computed; tokens_cached: how much all of them found
    spilled_bytes   of the host's memory that prefixes take which had to leave the cells
    preemptions     sequences paused because the cells were full
    tokens_guessed  before they were drawn; tokens_accepted: of them, drawn
    tokens_drafted  of the guesses: the draft model's; tokens_drafted_right: of them, drawn
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
    cells: int = 0
    cells_used: int = 0
    prefix_hits: int = 0
    tokens_cached: int = 0
    preemptions: int = 0
    spilled_bytes: int = 0
    tokens_guessed: int = 0
    tokens_accepted: int = 0
    tokens_drafted: int = 0
    tokens_drafted_right: int = 0
