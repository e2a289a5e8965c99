"""Every process is killed in the middle of a job, and the job ends well, once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlops import names
from mlops.jobs.job import JobState
from tests.fixtures.chaos import Bench, attempt_of, busy_child, in_mid_fit, scheduled, steady_fit
from tests.fixtures.stack import RunningStack

Benches = Callable[[], Bench]


def test_a_killed_child_fails_nobody_else_and_its_own_job_ends_well(chaos_stack: RunningStack, bench: Benches) -> None:
    victim, neighbour = bench(), bench()
    killed = victim.start(steady_fit(600))
    in_mid_fit(killed)
    child = busy_child(chaos_stack)
    spared = neighbour.start(steady_fit(600))
    in_mid_fit(spared)
    neighbours_child = busy_child(chaos_stack, but=[child.pid])
    worker = chaos_stack.pid("worker-cpu")
    child.kill()
    in_mid_fit(killed, beyond=0.01)
    assert neighbours_child.is_running()
    assert attempt_of(spared, names.FIT_STEP) == 1
    victim.assert_done_once(killed)
    neighbour.assert_done_once(spared)
    assert chaos_stack.pid("worker-cpu") == worker


@pytest.mark.parametrize("part", ["worker-cpu", "worker-io", "gateway", "temporal", "mlflow"])
def test_a_part_killed_in_mid_fit_costs_no_job(chaos_stack: RunningStack, bench: Benches, part: str) -> None:
    tenant = bench()
    job = tenant.start(steady_fit(400), folds=2)
    in_mid_fit(job)
    before = chaos_stack.pid(part)
    chaos_stack.kill_part(part)
    tenant.assert_done_once(job)
    assert chaos_stack.pid(part) != before
    assert len(tenant.mlflow.versions("model")) == 1


@pytest.mark.parametrize(
    ("part", "step"),
    [
        ("worker-io", names.LOG_STEP),
        ("worker-io", names.REGISTER_STEP),
        ("mlflow", names.LOG_STEP),
        ("mlflow", names.REGISTER_STEP),
        ("temporal", names.LOG_STEP),
        ("gateway", names.LOG_STEP),
    ],
)
def test_a_part_killed_while_a_job_is_logged_doubles_nothing(
    chaos_stack: RunningStack, bench: Benches, part: str, step: str
) -> None:
    tenant = bench()
    job = tenant.start(steady_fit(50))
    scheduled(job, step)
    chaos_stack.kill_part(part)
    result = tenant.assert_done_once(job)
    assert result.report.holdout
    assert job.job.state is JobState.SUCCEEDED
    assert len(tenant.mlflow.versions("model")) == 1
