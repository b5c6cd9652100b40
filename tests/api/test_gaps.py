"""The histogram that every token is counted in is the one that prometheus_client would make."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from shimmy.api.gaps import Gaps

BOUNDS = (0.001, 0.5, 2.0)
TIMES = st.lists(st.sampled_from([0.0, 0.001, 0.25, 0.5, 1.0, 2.0, 3.5]) | st.floats(0, 10), max_size=30)


def without_times(text: bytes) -> list[str]:
    """Without when each metric was made."""
    return [line for line in text.decode().splitlines() if "_created" not in line]


@given(TIMES)
def test_it_counts_as_prometheus_does(times: list[float]) -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("gap_seconds", "Gaps", ["model"], buckets=BOUNDS, registry=theirs).labels("m")
    gaps = Gaps("gap_seconds", "Gaps", BOUNDS)
    ours.register(gaps)
    counts = gaps.of("m")
    for seconds in times:
        histogram.observe(seconds)
        counts.observe(seconds)
    assert without_times(generate_latest(ours)) == without_times(generate_latest(theirs))
    assert gaps.of("m") is counts
