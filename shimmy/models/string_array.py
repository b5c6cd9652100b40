"""Stepping over the long string arrays of a GGUF header: vocabularies and merges.

Each string is its length (u64, little-endian) and its bytes, so the place of one follows from the one before: a
chain. Following half a million links one by one takes Python 50 to 100 ms. But seven zero bytes (the upper part of
a length below 256) hardly ever occur inside a string: what lies between two such places is then a string and the
lowest byte of the next one's length. Where each of these pieces is as long as the length before it says, they are
the chain. Whatever does not fit, links are followed singly.
"""

from __future__ import annotations

from struct import Struct

LENGTH = Struct("<Q")
_ZEROS = bytes(7)
# Fewer links are as quickly followed singly.
_FEW = 64


def step_over(data: bytes, position: int, count: int) -> tuple[int, int]:
    """Step over up to ``count`` strings of ``data`` from ``position``.

    Returns the position behind the last string that lies wholly inside ``data`` and how many were stepped over.
    """
    done = 0
    if count >= _FEW:
        pieces = _pieces(data, position)
        done = min(_n_proven(pieces), count)
        position += done * LENGTH.size + sum(piece[-1] for piece in pieces[:done])
    position, stepped = _step_singly(data, position, count - done)
    return position, done + stepped


def first_duplicate(data: bytes, count: int) -> bytes | None:
    """A string that ``data``, an array of ``count`` strings, holds twice; None if there is none.

    As llama.cpp reads a vocabulary: a string ends at its first null byte, and empty strings do not count.
    """
    if _surely_distinct(data, count):
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
    """Whether all strings are shown to differ; False: not shown."""
    pieces = _pieces(data, 0)
    if count < _FEW or len(pieces) != count + 1 or _n_proven(pieces) != count - 1:
        return False
    last = pieces.pop()
    # Strings with a null byte end before it, and empty ones do not count: left to the loop that looks at each.
    if len(last) != pieces[-1][-1] or data.count(0) != count * len(_ZEROS):
        return False
    return len({piece[:-1] for piece in pieces[1:]} | {last}) == count


def _pieces(data: bytes, position: int) -> list[bytes]:
    """What lies between seven zero bytes and the next ones, from ``position`` on."""
    return (data[position:] if position else data).split(_ZEROS)


def _n_proven(pieces: list[bytes]) -> int:
    """How many strings from the first one on are wholly there and followed by another one's length.

    The first piece is a length; by induction each piece that is one longer than the length before it says is that string with the
    next one's length.
    """
    if len(pieces[0]) != 1:
        return 0
    n = 0
    length = pieces[0][0]
    for piece in pieces[1:-1]:
        if len(piece) != length + 1:
            break
        length = piece[-1]
        n += 1
    return n


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
