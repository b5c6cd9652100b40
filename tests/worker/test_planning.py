"""A plan fits what there is of each device: experts leave the GPU first, then layers, then the context shrinks."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import InsufficientMemory
from shimmy.types import CPU, ContextParams, DeviceMemory, ModelFacts, ModelParams, Plan
from shimmy.worker.planning import make_plan, over
from tests.worker.test_sizing import facts

LAYER, EXPERTS, CELL = 100, 300, 1  # bytes: of a layer, of its experts, and of a cell in each layer on the device
N_LAYERS, TRAINED = 10, 4096


class Table(NamedTuple):
    """A machine with one simulated GPU. The output layer counts as a layer, as llama.cpp counts."""

    facts: ModelFacts
    embeds: bool = False
    gpu: bool = True

    def measure(self, model: ModelParams, n_ctx: int) -> list[DeviceMemory]:
        all_layers = N_LAYERS + 1
        on_gpu = 0 if not self.gpu else all_layers if model.n_gpu_layers < 0 else min(model.n_gpu_layers, all_layers)
        moe = N_LAYERS if model.n_cpu_moe < 0 else model.n_cpu_moe
        experts = EXPERTS if self.facts.n_expert else 0
        experts_on_gpu = experts * max(0, on_gpu - 1 - moe) if experts else 0
        everything = LAYER * all_layers + experts * N_LAYERS
        weights = LAYER * on_gpu + experts_on_gpu
        cache = CELL * n_ctx * max(on_gpu - 1, 0)
        parts = [DeviceMemory(CPU, everything - weights, CELL * n_ctx * N_LAYERS - cache, 7)]
        return [*parts, DeviceMemory("GPU0", weights, cache, 5)] if on_gpu else parts


def table(*, experts: bool = False, gpu: bool = True) -> Table:
    known = facts(TRAINED)
    return Table(
        ModelFacts(
            **{**{n: getattr(known, n) for n in known.__struct_fields__}, "n_layer": N_LAYERS, "n_expert": 4 * experts}
        ),
        gpu=gpu,
    )


def test_what_fits_is_loaded_as_wanted() -> None:
    plan = make_plan(table(), ModelParams(), ContextParams(), {CPU: 10**6, "GPU0": 10**6})
    assert (plan.n_ctx, plan.whole, plan.on_gpu, plan.notes) == (TRAINED, True, True, [])


def test_experts_leave_the_gpu_before_layers_do_and_no_more_than_must() -> None:
    measure = table(experts=True)
    everything = measure.measure(ModelParams(), 512)[1].total
    room = {CPU: 10**6, "GPU0": everything - 2 * EXPERTS + 1}
    plan = make_plan(measure, ModelParams(), ContextParams(n_ctx=512), room)
    assert (plan.model.n_cpu_moe, plan.model.n_gpu_layers, plan.n_ctx) == (2, -1, 512)
    assert not plan.on_gpu
    assert plan.notes == ["the experts of 2 of 10 layers on the CPU: GPU0 has room for 0 MiB and 0 MiB are needed"]
    fewer = make_plan(measure, ModelParams(), ContextParams(n_ctx=512), {CPU: 10**6, "GPU0": 1000})
    assert fewer.model.n_cpu_moe == -1
    assert 0 <= fewer.model.n_gpu_layers <= N_LAYERS
    assert not over(fewer.memory, {"GPU0": 1000})


def test_of_a_model_without_experts_layers_leave_the_gpu() -> None:
    plan = make_plan(table(), ModelParams(), ContextParams(n_ctx=512), {CPU: 10**6, "GPU0": 3 * (LAYER + 512)})
    assert plan.model.n_gpu_layers == 3
    assert plan.notes[0].startswith("8 of 11 layers on the CPU: GPU0 has room for ")


@pytest.mark.parametrize("model", [ModelParams(n_gpu_layers=11), ModelParams(tensor_split=(1.0,))])
def test_what_a_person_has_set_is_not_moved(model: ModelParams) -> None:
    with pytest.raises(InsufficientMemory, match=r"of GPU0 \(.*put fewer layers on it"):
        make_plan(table(), model, ContextParams(n_ctx=512), {CPU: 10**6, "GPU0": 100})


def test_without_offloading_the_context_shrinks_instead() -> None:
    room = {CPU: 10**6, "GPU0": LAYER * 11 + 5 + N_LAYERS * 1024}
    plan = make_plan(table(), ModelParams(), ContextParams(), room, offload=False)
    assert (plan.n_ctx, plan.on_gpu) == (1024, True)
    assert plan.notes == ["context 1024 instead of the trained 4096: 0 MiB of GPU0 may be taken"]


def test_a_context_that_was_set_does_not_shrink_and_the_error_says_which_would_fit() -> None:
    room = {CPU: LAYER * 11 + 7 + N_LAYERS * 1024}
    with pytest.raises(InsufficientMemory, match=r"a context of 4096 tokens needs .* use --ctx 1024") as caught:
        make_plan(table(gpu=False), ModelParams(), ContextParams(n_ctx=4096), room)
    assert caught.value.facts == {"estimate": LAYER * 11 + 7 + N_LAYERS * 4096, "available": room[CPU]}


def planned(measure: Table, n_ctx: int, room: dict[str, int]) -> Plan | InsufficientMemory:
    try:
        return make_plan(measure, ModelParams(), ContextParams(n_ctx=n_ctx), room)
    except InsufficientMemory as error:
        return error


@given(st.integers(0, 60_000), st.integers(0, 60_000), st.booleans(), st.sampled_from([0, 512, 1000, 4096]))
def test_a_plan_is_never_more_than_there_is(cpu: int, gpu: int, experts: bool, n_ctx: int) -> None:
    measure, room = table(experts=experts), {CPU: cpu, "GPU0": gpu}
    plan = planned(measure, n_ctx, room)
    if isinstance(plan, InsufficientMemory):
        assert int(str(plan.facts["estimate"])) > int(str(plan.facts["available"]))
        assert "\n" not in plan.message
        return
    assert not over(plan.memory, room)
    assert plan.memory == measure.measure(plan.model, plan.n_ctx)
    assert plan.n_ctx == n_ctx or (not n_ctx and plan.n_ctx % 256 == 0)
    assert plan.whole == (not plan.notes)
    if plan.n_ctx < TRAINED and not n_ctx:  # one step more would have fitted nowhere
        assert isinstance(planned(measure, plan.n_ctx + 256, room), InsufficientMemory)
