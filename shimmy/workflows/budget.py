"""How many tokens a run may still have its models read and write."""

from __future__ import annotations

from shimmy.errors import ShimmyError


class TokensSpent(ShimmyError):
    """The run has used the tokens that it may."""

    code = "tokens_spent"


class TokenBudget:
    """Counts the tokens of prompts and answers. What is being generated is reserved, so that steps at once do not exceed it together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._reserved = 0
        self.spent = 0

    def reserve(self, tokens: int) -> None:
        """An answer of at most so many tokens begins. Raises TokensSpent where they are not there."""
        left = self._most - self.spent - self._reserved
        if tokens > left:
            raise TokensSpent(
                f"{left:,} of the workflow's {self._most:,} tokens are left, and the step may take {tokens:,}"
            )
        self._reserved += tokens

    def settle(self, reserved: int, spent: int) -> None:
        """It has ended, and took so many with its prompt."""
        self._reserved -= reserved
        self.spent += spent
