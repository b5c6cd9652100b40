"""Write all tiny models into a folder: ``python -m tests.tiny FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.tiny.models import (
    write_causal_reranker,
    write_embedding,
    write_hybrid,
    write_llama,
    write_moe,
    write_recurrent,
    write_reranker,
    write_swa,
)

for write in (
    write_causal_reranker,
    write_embedding,
    write_hybrid,
    write_llama,
    write_moe,
    write_recurrent,
    write_reranker,
    write_swa,
):
    write(Path(sys.argv[1]) / f"{write.__name__.removeprefix('write_')}.gguf")
