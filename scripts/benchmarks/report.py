"""What the benchmarks leave behind: a JSON file each, and the table of those that measure in company."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peers import ROOT


def write(name: str, found: Mapping[str, Any]) -> None:
    """Every measurement, as build/bench/NAME.json."""
    path = ROOT / "build" / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(f"written to {path.relative_to(ROOT)}", file=sys.stderr)


def key(kind: str, company: str, streams: int) -> str:
    """Where the speeds of ``streams`` streams of one kind in one company are kept."""
    return f"{kind} | {company} | {streams}"


def print_companies(
    title: str, speeds: Mapping[str, Sequence[float]], kinds: Iterable[str], companies: Iterable[str]
) -> None:
    """A row for each kind: median speeds of 1 and of 8 streams in each company."""
    companies = list(companies)
    print(f"{title:<36}" + "".join(f"{company:>24}" for company in companies))
    for kind in kinds:
        cells = ([statistics.median(speeds[key(kind, company, n)]) for n in (1, 8)] for company in companies)
        print(f"{kind:<36}" + "".join(f"{one:>15.1f}, {eight:>7.1f}" for one, eight in cells))
