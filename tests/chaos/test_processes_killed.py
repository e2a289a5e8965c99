"""Every process is killed in the middle of a job, and the job ends well, once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlops import names
from mlops.jobs.job import StepState
from tests.fixtures.chaos import Bench, attempt_of, busy_child, in_mid_fit, is_alive, reached, steady_fit
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

Benches = Callable[[], Bench]


def test_a_killed_child_fails_nobody_else_and_its_own_job_ends_well(chaos_stack: RunningStack, bench: Benches) -> None:
    victim, neighbour = bench(), bench()
    killed = victim.start(steady_fit(400))
    in_mid_fit(killed)
    child = busy_child(chaos_stack)
    spared = neighbour.start(steady_fit(400))
    in_mid_fit(spared)
    neighbours_child = busy_child(chaos_stack, but=[child.pid])
    worker = chaos_stack.pid("worker-cpu")
    child.kill()
    victim.assert_done_once(killed)
    assert attempt_of(spared, names.FIT_STEP) == 1
    neighbour.assert_done_once(spared)
    assert is_alive(neighbours_child), "the neighbour's child went on"
    assert chaos_stack.pid("worker-cpu") == worker


@pytest.mark.parametrize("part", ["worker-cpu", "worker-io", "gateway", "temporal", "mlflow"])
def test_a_killed_part_costs_neither_a_job_in_mid_fit_nor_one_that_is_logged(
    chaos_stack: RunningStack, bench: Benches, part: str
) -> None:
    tenant = bench()
    fitting = tenant.start(steady_fit(500), name="long")
    logging = tenant.start(steady_fit(50), name="short")
    reached(logging, names.LOG_STEP, StepState.SCHEDULED)
    in_mid_fit(fitting, beyond=0.0)
    before = chaos_stack.pid(part)
    chaos_stack.kill_part(part)
    tenant.assert_done_once(fitting)
    tenant.assert_done_once(logging)
    assert chaos_stack.pid(part) != before
    assert [len(tenant.mlflow.versions(name)) for name in ("long", "short")] == [1, 1]


@pytest.mark.parametrize("part", ["worker-io", "mlflow"])
def test_a_part_killed_while_a_version_is_registered_registers_no_second_one(
    chaos_stack: RunningStack, bench: Benches, part: str
) -> None:
    tenant = bench()
    job = tenant.start(steady_fit(20))
    reached(job, names.REGISTER_STEP, StepState.SCHEDULED)
    chaos_stack.kill_part(part)
    tenant.assert_done_once(job)
    assert len(tenant.mlflow.versions("model")) == 1


def test_a_watch_tells_everything_once_though_the_gateway_dies_under_it(
    chaos_stack: RunningStack, bench: Benches
) -> None:
    tenant = bench()
    job = tenant.start(steady_fit(200), folds=2)
    told: list[tuple[str, StepState]] = []
    killed = False
    for event in job.watch():
        if event.step is not None and event.step.state in (StepState.SCHEDULED, StepState.SUCCEEDED):
            told.append((event.step.step, event.step.state))
        if event.step is not None and event.step.state is StepState.RUNNING and not killed:
            chaos_stack.kill_part("gateway")
            killed = True
    assert killed
    succeeded = [step for step, state in told if state is StepState.SUCCEEDED]
    assert sorted(succeeded) == sorted(
        [
            *(names.FIT_STEP, names.fold_step(0), names.fold_step(1), names.EXPORT_STEP, names.EVALUATE_STEP),
            *(names.START_RUN_STEP, names.LOG_STEP, names.REGISTER_STEP, names.FINISH_STEP),
        ]
    )
    tenant.assert_done_once(job)
