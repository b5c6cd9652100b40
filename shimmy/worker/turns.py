"""Where the messages of a conversation begin in its tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from shimmy.types import Message

_INSTRUCTIONS = {"system", "developer"}


def turn_starts(tokens: Sequence[int], messages: Sequence[Message], is_control: Callable[[int], bool]) -> list[int]:
    """How many tokens come before the first message that is no instruction, and before the last message; empty: it is not seen.

    Most templates begin each message with the same control token, and the answer, too; some add instructions of their own, and some
    mark a user's messages only. So a control token that is there as often is looked for. Being wrong costs time and no correctness.
    """
    roles = [message.role for message in messages]
    n_said = sum(role not in _INSTRUCTIONS for role in roles)
    n_users = roles.count("user")
    counts = Counter(tokens)
    # How often it is there; which of them begins the last message; how many messages it began up to there, instructions not counted.
    for n, last, n_counted in ((len(roles) + 2, -2, n_said), (len(roles) + 1, -2, n_said), (n_users, -1, n_users)):
        found = next((token for token, count in counts.items() if count == n and n_counted and is_control(token)), None)
        if found is not None:
            at = [position for position, token in enumerate(tokens) if token == found]
            return sorted({at[n + last + 1 - n_counted], at[last]})
    return []
