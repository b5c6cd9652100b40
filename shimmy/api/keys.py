"""API keys: which there are, and whose request this is."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from shimmy.errors import Unauthorized, UsageError

ANYBODY = ""
"""The client where no keys are configured."""


class KeyRing:
    """Keys as hashes, from the configuration and from a file that may be read again."""

    def __init__(self, keys: Iterable[str], file: Path | None) -> None:
        """Raises UsageError when the file cannot be read."""
        self._given = [_digest(key) for key in keys]
        self._file = file
        self._digests: list[bytes] = []
        self.reload()

    def __bool__(self) -> bool:
        """Whether a key is needed. With a file one is, even when there is none in it."""
        return bool(self._digests) or self._file is not None

    def __len__(self) -> int:
        return len(self._digests)

    def reload(self) -> None:
        """Read the file again. Raises UsageError when it cannot be read; the keys stay as they were."""
        self._digests = [*self._given, *self._read()]

    def client(self, key: str | None) -> str | None:
        """A name for who has this key, the same each time; None: the key is not known. Takes the same time for all."""
        found = None
        digest = _digest(key or "")
        for known in self._digests:
            if hmac.compare_digest(known, digest):
                found = known
        return found.hex()[:16] if found is not None else None

    def knows(self, client: str) -> bool:
        """Whether the key that made someone this client is still a key; for who stays longer than a request."""
        return not self or any(known.hex()[:16] == client for known in self._digests)

    def identify(self, key: str | None) -> str:
        """``client``, and ANYBODY where there are no keys. Raises Unauthorized."""
        if not self:
            return ANYBODY
        client = self.client(key)
        if client is None:
            what = "this key is not known" if key else "a key is needed"
            raise Unauthorized(f"{what}: send Authorization: Bearer KEY, or x-api-key: KEY")
        return client

    def _read(self) -> list[bytes]:
        if self._file is None:
            return []
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"the file of keys {self._file} cannot be read: {reason}") from None
        keys = [line.strip() for line in lines]
        return [_digest(key) for key in keys if key and not key.startswith("#")]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
