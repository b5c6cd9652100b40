"""The benchmarks are programs in a folder of their own: their modules are imported from there."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"))
