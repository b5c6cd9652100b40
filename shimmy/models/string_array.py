"""Stepping over the long string arrays of a GGUF header: vocabularies and merges.

Each string is its length (u64, little-endian) and its bytes, so the place of one follows from the one before: a
chain. Following half a million links one by one takes Python 50 to 100 ms. numpy proves whole stretches of the
chain at once instead: seven zero bytes (the upper part of a length below 256) hardly ever occur inside a string,
so candidates for the starts are found by looking for zero words; a stretch of candidates of which each one is
exactly where the one before says is the chain. Wherever a candidate does not fit, links are followed singly.
"""

from __future__ import annotations

import sys
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LENGTH = Struct("<Q")
# Setting numpy up costs as much as following this many links, and as many where it has to be imported first.
_FEW, _FEW_WITHOUT_NUMPY = 1024, 65536
# How many links are followed singly before another stretch is looked for.
_SINGLY = 8


def step_over(data: bytes, position: int, count: int) -> tuple[int, int]:
    """Step over up to ``count`` strings of ``data`` from ``position``.

    Returns the position behind the last string that lies wholly inside ``data`` and how many were stepped over.
    """
    if _is_long(count):
        return _step_by_stretches(data, position, count)
    return _step_singly(data, position, count)


def _is_long(count: int) -> bool:
    return count >= (_FEW if "numpy" in sys.modules else _FEW_WITHOUT_NUMPY)


def first_duplicate(data: bytes, count: int) -> bytes | None:
    """A string that ``data``, an array of ``count`` strings, holds twice; None if there is none.

    As llama.cpp reads a vocabulary: a string ends at its first null byte, and empty strings do not count.
    """
    if _is_long(count) and _surely_distinct(data, count):
        return None
    unpack = LENGTH.unpack_from
    seen: set[bytes] = set()
    position = 0
    for _ in range(count):
        start = position + 8
        position = start + unpack(data, position)[0]
        string = data[start:position]
        if b"\0" in string:
            string = string.partition(b"\0")[0]
        if string in seen:
            return string
        if string:
            seen.add(string)
    return None


def _surely_distinct(data: bytes, count: int) -> bool:
    """Whether all strings differ, shown by hashes: equal strings would have equal ones. False: not shown."""
    import numpy as np

    starts, ends = _candidates(data)
    starts, ends = starts[:count], ends[:count]
    whole = starts.size == count and starts[0] == 0 and ends[-1] == len(data)
    if not whole or (starts[1:] != ends[:-1]).any():
        return False
    lengths = ends - starts - 8
    # Strings with a null byte end before it, and empty ones do not count: left to the loop that looks at each.
    if not lengths.all() or np.count_nonzero(np.frombuffer(data, dtype="u1")) != count + lengths.sum():
        return False
    every_u64 = np.ndarray((len(data) + 1,), dtype="<u8", buffer=data + bytes(8), strides=(1,))
    hashes = lengths.astype(np.uint64)
    which = np.arange(count)
    at = 0
    while which.size:
        left = np.minimum(lengths[which] - at, 8).astype(np.uint64)
        # the bytes of this word that are the string's own
        word = every_u64[starts[which] + 8 + at] & (np.uint64(2**64 - 1) >> (np.uint64(64) - np.uint64(8) * left))
        mixed = (hashes[which] ^ word) * np.uint64(0x9E3779B97F4A7C15)
        hashes[which] = mixed ^ (mixed >> np.uint64(29))
        at += 8
        which = which[lengths[which] > at]
    hashes.sort()
    return not (hashes[1:] == hashes[:-1]).any()


def _step_singly(data: bytes, position: int, count: int) -> tuple[int, int]:
    """One string after the other."""
    unpack, size = LENGTH.unpack_from, len(data)
    last = size - 8
    done = 0
    while done < count and position <= last:
        (length,) = unpack(data, position)
        end = position + 8 + length
        if end > size:
            break
        position = end
        done += 1
    return position, done


def _step_by_stretches(data: bytes, position: int, count: int) -> tuple[int, int]:
    """The same, a proven stretch of the chain at a time."""
    starts, ends = _candidates(data)
    if not starts.size:
        return _step_singly(data, position, count)
    # breaks[i]: candidate i is not followed by candidate i + 1; the last one is not followed by any
    breaks = (starts[1:] != ends[:-1]).nonzero()[0]
    done = 0
    while done < count:
        found = int(starts.searchsorted(position))
        if found < starts.size and starts[found] == position:
            at = int(breaks.searchsorted(found))
            last = int(breaks[at]) if at < breaks.size else starts.size - 1
            last = min(last, found + count - done - 1)
            if last > found:
                # All of these are proven; the last one's own end may still lie outside.
                done += last - found
                position = int(starts[last])
        before = done
        position, stepped = _step_singly(data, position, min(_SINGLY, count - done))
        done += stepped
        if stepped < min(_SINGLY, count - before):
            break
    return position, done


def _candidates(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where strings shorter than 256 bytes may start, ascending, and where each would end.

    The seven zero bytes hold exactly one aligned zero word; the highest byte of the word before it that is not
    zero would be the length.
    """
    import numpy as np

    words = np.frombuffer(data, dtype="<u4", count=len(data) // 4)
    zero = np.flatnonzero(words == 0)
    zero = zero[zero.searchsorted(1) :]
    before = words[zero - 1]
    starts = 4 * zero - 4
    starts += before >= 1 << 8
    starts += before >= 1 << 16
    starts += before >= 1 << 24
    starts = starts[: starts.searchsorted(len(data) - 8, "right")]
    every_u64 = np.ndarray((max(len(data) - 7, 0),), dtype="<u8", buffer=data, strides=(1,))
    lengths = every_u64[starts]
    # Lengths of 2**31 and more cannot follow each other inside one window; capped, the sums cannot overflow.
    np.minimum(lengths, 1 << 31, out=lengths)
    return starts, starts + 8 + lengths.view(np.int64)
