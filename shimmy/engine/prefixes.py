"""What two lists of tokens begin with in common, and how much of it can be used."""

from __future__ import annotations

_STRIDE = 256


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many tokens two lists begin with in common."""
    limit = min(len(a), len(b))
    at = 0
    while at < limit and a[at : at + _STRIDE] == b[at : at + _STRIDE]:
        at += _STRIDE
    at = min(at, limit)
    while at < limit and a[at] == b[at]:
        at += 1
    return at


def begins_with(tokens: list[int], beginning: list[int]) -> bool:
    """Whether ``tokens`` begin with all of ``beginning``."""
    n = len(beginning)
    return n <= len(tokens) and tokens[:8] == beginning[:8] and common_prefix(tokens, beginning) == n


def usable(prompt: list[int], cached: list[int], *, fork: bool) -> int:
    """How many tokens of ``cached`` a prompt can go on from; without ``fork`` all or none.

    The prompt's last token is always left to compute, because its logits are needed.
    """
    n = min(common_prefix(prompt, cached), len(prompt) - 1)
    return n if fork or n == len(cached) else 0


def sees(first: int, n: int, window: int) -> bool:
    """Whether the token after ``n`` others finds all that it sees, where layers with a ``window`` hold positions from ``first`` on."""
    return not window or first <= max(0, n - window + 1)
