"""What a job does beyond its limits, or after it was cancelled, ends at once; its neighbours do not notice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from mlops import errors, names
from mlops.client.blocking.handle import JobHandle
from mlops.jobs.job import JobState, StepState
from tests.fixtures.chaos import (
    Bench,
    attempt_of,
    busy_child,
    deaf_fit,
    in_mid_fit,
    is_alive,
    paused,
    poll,
    reached,
    steady_fit,
)
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

Benches = Callable[[], Bench]
# The promise is one second; this machine is shared and noisy.
FREED_WITHIN_SECONDS = 3.0
# A few heartbeats.
CANCELLATION_SECONDS = 1.5
# What a job that was cancelled in a step does not begin any more.
AFTERWARDS = {
    names.START_RUN_STEP: {names.EVALUATE_STEP, names.LOG_STEP, names.REGISTER_STEP, names.FINISH_STEP},
    names.LOG_STEP: {names.REGISTER_STEP, names.FINISH_STEP},
    names.REGISTER_STEP: {names.FINISH_STEP},
}


def cores() -> int:
    return len(os.sched_getaffinity(0))


def test_a_job_over_its_memory_limit_fails_with_the_figures_while_its_neighbour_finishes(bench: Benches) -> None:
    greedy, neighbour = bench(), bench()
    spared = neighbour.start(steady_fit(300))
    in_mid_fit(spared, beyond=0.0)
    job = greedy.start(make_pipeline(PolynomialFeatures(7), LogisticRegression()), memory="64MiB")
    with pytest.raises(errors.JobFailed):
        job.wait(timeout=120)
    failure = job.refresh().failure
    assert failure is not None
    assert (failure.step, failure.reason) == (names.FIT_STEP, "MEMORY_LIMIT_EXCEEDED")
    assert "64.0 MiB" in failure.message
    assert failure.message.count("MiB") > 1, "what was held, and what was allowed"
    assert "memory" in failure.hint
    greedy.assert_undone(job, "FAILED")
    assert attempt_of(spared, names.FIT_STEP) == 1
    neighbour.assert_done_once(spared)


def test_a_job_over_its_time_limit_fails_and_frees_its_core(chaos_stack: RunningStack, bench: Benches) -> None:
    tenant = bench()
    job = tenant.start(deaf_fit(), time_limit="8s")
    reached(job, names.FIT_STEP, StepState.RUNNING)
    child = busy_child(chaos_stack)
    with pytest.raises(errors.JobFailed):
        job.wait(timeout=60)
    failure = job.refresh().failure
    assert failure is not None
    assert failure.reason == "TIME_LIMIT_EXCEEDED"
    assert "8 s" in failure.message
    assert "time_limit" in failure.hint
    assert not is_alive(child)
    tenant.assert_undone(job, "FAILED")


def test_cancelling_a_fit_that_hears_no_signal_frees_its_cores_at_once_for_another_tenant(
    chaos_stack: RunningStack, bench: Benches, say: Callable[[str], None]
) -> None:
    holder, waiter = bench(), bench()
    job = holder.start(deaf_fit(), cpus=cores())
    reached(job, names.FIT_STEP, StepState.RUNNING)
    child = busy_child(chaos_stack)
    reached(job, names.START_RUN_STEP, StepState.SUCCEEDED)
    waiting = waiter.start(steady_fit(20))
    poll(lambda: _at(waiting, names.FIT_STEP) is StepState.WAITING, "the other tenant's wait for a core")
    asked = time.monotonic()
    job.cancel("a test")
    poll(lambda: not is_alive(child), "the end of the child", FREED_WITHIN_SECONDS)
    freed = time.monotonic() - asked
    say(f"cancel to a free core: {freed:.2f} s")
    assert freed < FREED_WITHIN_SECONDS
    waiter.assert_done_once(waiting)
    with pytest.raises(errors.JobCancelled):
        job.wait(timeout=60)
    assert job.refresh().state is JobState.CANCELLED
    holder.assert_undone(job, "KILLED")


@pytest.mark.parametrize("step", [names.START_RUN_STEP, names.LOG_STEP, names.REGISTER_STEP])
def test_a_job_cancelled_while_mlflow_is_slow_to_answer_leaves_an_ended_run_and_no_version(
    chaos_stack: RunningStack, bench: Benches, step: str
) -> None:
    tenant = bench()
    job = tenant.start(steady_fit(100 if step == names.START_RUN_STEP else 10))
    reached(job, step, StepState.SCHEDULED)
    if step == names.START_RUN_STEP:
        poll(lambda: _at(job, step) is not StepState.SCHEDULED, "the start of the run")
    with paused(chaos_stack, "mlflow"):
        job.cancel()
        # What is on its way to MLflow is carried out when it goes on, whoever still waits for the answer.
        told = time.monotonic() + CANCELLATION_SECONDS
        poll(lambda: time.monotonic() > told, "the cancellation's way to the step")
    with pytest.raises(errors.JobCancelled):
        job.wait(timeout=90)
    assert [one.step for one in job.refresh().steps if one.step in AFTERWARDS[step]] == []
    tenant.assert_undone(job, "KILLED")


def test_a_job_that_scikit_learn_refuses_leaves_its_run_failed_and_no_version(bench: Benches) -> None:
    tenant = bench()
    # The first step takes a while, so that the run exists before the second one is found to be impossible.
    job = tenant.start(make_pipeline(PolynomialFeatures(5), PCA(n_components=100_000), LogisticRegression()))
    with pytest.raises(errors.JobFailed):
        job.wait(timeout=60)
    failure = job.refresh().failure
    assert failure is not None
    assert (failure.reason, failure.error_class) == ("FIT_FAILED", "ValueError")
    assert "n_components" in failure.message
    tenant.assert_undone(job, "FAILED")


def _at(job: JobHandle, step: str) -> StepState | None:
    return next((one.state for one in job.refresh().steps if one.step == step), None)
