"""The plan of works: what every row of the table needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import works
from setups import PEER_SIDES, SETUPS
from whole import choose
from work import OURS, Work


@pytest.fixture(name="plan", params=[works.whole, works.quick])
def plan_fixture(request: pytest.FixtureRequest) -> list[Work]:
    made: Callable[[], list[Work]] = request.param
    return made()


def test_every_work_has_a_name_of_its_own_and_known_servers(plan: list[Work]) -> None:
    assert len({work.name for work in plan}) == len(plan)
    assert {work.setup for work in plan} <= set(SETUPS)
    assert all(work.pairs > 0 for work in plan)


def test_every_work_measures_ours(plan: list[Work]) -> None:
    assert all(work.window is not None or OURS in work.programs for work in plan)


def test_no_two_metrics_of_a_work_would_be_recorded_as_one(plan: list[Work]) -> None:
    for work in plan:
        names = [(metric.name, metric.beside) for metric in work.metrics]
        assert len(set(names)) == len(names)


def test_what_a_metric_is_compared_with_is_measured(plan: list[Work]) -> None:
    for work in plan:
        setup = SETUPS[work.setup]
        measured = {
            *work.ours_besides,
            *work.programs,
            *(setup.ours if work.window else ()),
            *(setup.peers if work.window else ()),
        }
        for metric in work.metrics:
            wanted = {metric.beside} if metric.beside else PEER_SIDES
            assert metric.alone or measured & wanted, (work.name, metric.name)


def test_only_the_works_that_were_asked_for_are_chosen() -> None:
    assert {work.name for work in choose(works.whole(), ["schema", "two mod"])} == {"schema", "two models"}
    everything = works.whole()
    assert choose(everything, []) == everything
