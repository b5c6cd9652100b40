"""The checksum of a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from shimmy.models.packages import CHUNK
from shimmy.models.progress import Progress


def sha256_of(path: Path, label: str, progress: Progress) -> str:
    """The sha256 of the file at ``path``, in lower-case hexadecimal digits; may raise OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        progress.start(os.fstat(file.fileno()).st_size, f"checking {label}")
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            progress.advance(len(chunk))
    progress.finish()
    return digest.hexdigest()
