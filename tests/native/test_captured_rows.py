"""On rows as real models give them, our sampler leaves what llama.cpp's own chain leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import platformdirs
import pytest

from shimmy.models.progress import Silent
from shimmy.models.sources import parse_source
from shimmy.models.store import Store
from tests.native.blank import Blanks
from tests.native.compare import HISTORY, NEUTRAL, Models, difference
from tests.native.rows import capture

FULL = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
PENALTIES = {"repeat_penalty": 1.1, "presence_penalty": 0.3, "frequency_penalty": 0.1}
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "server's defaults": FULL,
    "penalties and DRY": {**FULL, **PENALTIES, "dry_multiplier": 0.8},
    "XTC and top_n_sigma": {**FULL, "xtc_probability": 1.0, "xtc_threshold": 0.07, "top_n_sigma": 2.0},
    "dynamic temperature": {**FULL, "dynatemp_range": 0.4},
    "top_p alone": {"top_p": 0.957},
    "min_p alone": {"min_p": 0.02},
    "typical_p alone": {"typical_p": 0.913},
    "top_n_sigma alone": {"top_n_sigma": 1.0},
    "temperature first": {"temperature": 1.5, "top_p": 0.9, "samplers": ("temperature", "top_p")},
    "mirostat": {"mirostat": 1, "mirostat_tau": 4.0},
    "mirostat 2": {"mirostat": 2, "mirostat_tau": 4.0},
}
# The chain's sums of floats are farther off the wider the row is; ours agree with float64.
BORDER = 2e-8  # for each logit of the row


def differences(blank: Blanks, models: Models, rows: np.ndarray[Any, np.dtype[np.float32]]) -> list[str]:
    """One entry for each row and setting, "" where ours leaves what the chain leaves."""
    params = [msgspec.structs.replace(NEUTRAL, **changes) for changes in SETTINGS.values()]
    return [difference(blank, models, each, row, HISTORY, border=BORDER * len(row)) for row in rows for each in params]


def test_rows_of_the_default_model(blank: Blanks, chain_model: Models, default_model: Path) -> None:
    assert differences(blank, chain_model, capture(default_model, 3)) == [""] * 3 * len(SETTINGS)


@pytest.mark.slow
def test_rows_of_gemma(blank: Blanks, chain_model: Models) -> None:
    store = Store(platformdirs.user_cache_path("shimmy-tests", appauthor=False) / "models")
    rows = capture(store.pull(parse_source("gemma-3-270m"), Silent()).path, 12)
    assert differences(blank, chain_model, rows) == [""] * 12 * len(SETTINGS)
