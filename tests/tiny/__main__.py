"""Write all tiny models into a folder: ``python -m tests.tiny FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.tiny.models import WRITERS

for name, write in WRITERS.items():
    write(Path(sys.argv[1]) / f"{name}.gguf")
