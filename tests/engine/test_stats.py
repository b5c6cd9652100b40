"""What an engine says of itself fits what it did."""

from __future__ import annotations

from shimmy.engine.stats import EngineStats
from shimmy.native.model import Model
from tests.contexts import MakeContext
from tests.engine.running import RunningEngine, random_prompt, running


def test_cells_in_use_grow_with_the_answer_also_while_native_code_streams_it(
    llama: Model, make_context: MakeContext
) -> None:
    prompt = random_prompt(llama, 50, seed=1)
    seen: list[EngineStats] = []
    with running(RunningEngine(llama, make_context(llama, n_ctx=512))) as engine:
        for at in (1, 10, 60):
            engine.at_events[at] = lambda: seen.append(engine.engine.stats())
        answer = engine.ask(prompt, max_tokens=100)
        after = engine.engine.stats()
    assert engine.n_streamed > 50
    assert [stats.cells for stats in seen] == [512] * 3
    used = [stats.cells_used for stats in seen]
    assert used == sorted(set(used))
    assert 50 <= used[0] < 100 < used[2]
    assert after.cells_used == after.parked == len(answer.sequence.tokens) - 1


def test_shared_cells_are_counted_once_and_hits_with_what_they_found(llama: Model, make_context: MakeContext) -> None:
    prompt = random_prompt(llama, 100, seed=1)
    with running(RunningEngine(llama, make_context(llama, n_ctx=1024))) as engine:
        answers = [engine.submit(prompt, max_tokens=8) for _ in range(4)]
        engine.wait(*answers)
        stats = engine.engine.stats()
    assert (stats.prefix_hits, stats.tokens_cached, stats.preemptions) == (3, 3 * 99, 0)
    assert stats.parked == 4 * 107
    assert stats.cells_used == 99 + 4 * 8


def test_a_split_cache_has_each_copy_in_cells_of_its_own(llama: Model, make_context: MakeContext) -> None:
    prompt = random_prompt(llama, 100, seed=1)
    with running(RunningEngine(llama, make_context(llama, n_ctx=1024, kv_unified=False))) as engine:
        answers = [engine.submit(prompt, max_tokens=8) for _ in range(2)]
        engine.wait(*answers)
        assert engine.engine.stats().cells_used == 2 * 107


def test_pauses_are_counted(llama: Model, make_context: MakeContext) -> None:
    with running(RunningEngine(llama, make_context(llama, n_ctx=256))) as engine:
        answers = [engine.submit(random_prompt(llama, 60, seed=seed), max_tokens=110) for seed in range(3)]
        engine.wait(*answers)
        stats = engine.engine.stats()
    assert stats.preemptions > 0
    assert stats.cells_used <= stats.cells == 256
    assert (stats.prefix_hits, stats.tokens_cached) == (0, 0)
