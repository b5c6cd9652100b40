"""How many prompt tokens a step takes, so that running streams never wait longer than a set time.

Sizes are few and fixed, because a compute graph is reused only when its shape repeats. The price of a prompt token is learned while
running: it depends on the machine, on the model and, as attention grows, on how long the prompts are.
"""

from __future__ import annotations

SIZES = (8, 16, 32, 64, 128, 256, 512)
_FIRST = 64  # tokens of the first slice while others decode, from which the price is learned
# Least when nobody decodes: smaller slices were measured 3 to 14 % slower a token, this one within 4 % of 512.
ALONE = 128
_WEIGHT = 0.3  # of a new observation
KEPT = 0.3  # share of their speed that running streams keep beside a prompt, as long as a step is not shorter than half of the longest


class Pacer:
    """Chooses the slice of prefill. Engine thread only.

    max_step_s: the longest step while others decode; idle_step_s: the longest with nobody decoding, which bounds how late a new
    request or an abort is noticed.
    """

    def __init__(self, max_step_s: float, idle_step_s: float = 2.0) -> None:
        self._max_step_s = max_step_s
        self._idle_step_s = idle_step_s
        self.decode_s = 0.0  # of a step without prefill
        self._token_s = 0.0

    def slice_size(self, n_decoding: int) -> int:
        """Most prompt tokens for the next step: the largest of SIZES that fits the time."""
        least = SIZES[0] if n_decoding else ALONE
        if not self._token_s:
            return max(_FIRST, least)
        budget = self._step_s() - self.decode_s if n_decoding else self._idle_step_s
        return max(least, *(size for size in SIZES if size * self._token_s <= budget), 0)

    def _step_s(self) -> float:
        """The longest step while others decode: what is fast alone shall not become ten times slower beside a prompt."""
        return min(self._max_step_s, max(self.decode_s / KEPT, self._max_step_s / 2))

    def observe(self, n_prefill: int, n_decoding: int, seconds: float) -> None:
        """Learn from a finished step of ``n_prefill`` prompt tokens and ``n_decoding`` decode rows."""
        if not n_prefill:
            self.decode_s = _blend(self.decode_s, seconds)
        elif n_prefill >= SIZES[0]:  # a short rest of a prompt says little: the fixed cost of a step dominates it
            own = max(seconds - (self.decode_s if n_decoding else 0.0), 1e-6)
            self._token_s = _blend(self._token_s, own / n_prefill)


def _blend(old: float, new: float) -> float:
    return old + _WEIGHT * (new - old) if old else new
