"""The training workflow's order, failures and compensations, with fake activities.

On the time-skipping server where time matters; where steps are cancelled on a real one, since the other
refuses to cancel a step that has just ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from mlops import errors, names
from mlops.jobs.report import TrainingOutcome
from mlops.jobs.tracking import RunStatus
from mlops.jobs.training import TrainingJob
from mlops.workers.sandbox import SANDBOX
from mlops.workflows.failures import failure_of
from mlops.workflows.training import TrainingWorkflow
from tests.fixtures.activities import FakeCpu, FakeIo, Ledger, failing, until_cancelled


def a_job(**changes: Any) -> TrainingJob:
    given: dict[str, Any] = {
        "tenant": "acme",
        "job_id": f"train-{uuid4().hex[:12]}",
        "owner": "ada",
        "plan_sha256": "f" * 64,
        "folds": 3,
        "time_limit": timedelta(hours=1),
        "max_attempts": 3,
        "model_name": "churn",
    }
    return TrainingJob(**{**given, **changes})


@asynccontextmanager
async def workers(client: Client, ledger: Ledger) -> AsyncIterator[None]:
    cpu, io = FakeCpu(ledger), FakeIo(ledger)
    async with (
        Worker(
            client,
            task_queue=names.IO_QUEUE,
            workflows=[TrainingWorkflow],
            activities=[io.copy_source, io.start_run, io.log_run, io.register_version, io.end_run],
            workflow_runner=SANDBOX,
            build_id="test",
        ),
        Worker(
            client,
            task_queue=names.CPU_QUEUE,
            activities=[cpu.ingest_dataset, cpu.fit_step, cpu.evaluate, cpu.export_model],
            build_id="test",
            max_heartbeat_throttle_interval=timedelta(milliseconds=100),
        ),
    ):
        yield


async def start(client: Client, job: TrainingJob) -> WorkflowHandle[TrainingWorkflow, TrainingOutcome]:
    return await client.start_workflow(TrainingWorkflow.run, job, id=job.job_id, task_queue=names.IO_QUEUE)


async def ended_with(handle: WorkflowHandle[Any, Any]) -> BaseException:
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(handle.result(), 30)
    assert failed.value.cause is not None
    return failed.value.cause


async def until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


async def test_a_job_fits_evaluates_logs_registers_and_ends_its_run(time_skipping: WorkflowEnvironment) -> None:
    ledger = Ledger()
    async with workers(time_skipping.client, ledger):
        outcome = await (await start(time_skipping.client, a_job())).result()
    assert sorted(ledger.calls[:6]) == ["export", "fit", "fold-0", "fold-1", "fold-2", "start-run"]
    assert ledger.calls.index("export") > ledger.calls.index("fit")
    assert ledger.calls[6:] == ["evaluate", "log", "register", "end-run"]
    assert [ended.status for ended in ledger.ended] == [RunStatus.FINISHED]
    assert ledger.ended[0].model_name is None, "a job that succeeded keeps its version"
    assert outcome == TrainingOutcome(
        run_id="run-1", experiment_id="1", model_uri="models:/churn/1", model_name="churn", model_version=1
    )


async def test_a_job_without_a_model_name_registers_nothing(time_skipping: WorkflowEnvironment) -> None:
    ledger = Ledger()
    async with workers(time_skipping.client, ledger):
        outcome = await (await start(time_skipping.client, a_job(model_name=None, folds=0))).result()
    assert "register" not in ledger.calls
    assert outcome.model_uri == "models:/m-1"


async def test_a_permanent_failure_is_tried_once_and_undone(temporal: Client) -> None:
    ledger = Ledger()
    refused = errors.FitFailed("could not convert string to float: 'a'", error_class="ValueError", hint="encode it")
    ledger.behaviour["fold-1"] = lambda: failing(refused, "fold-1")
    async with workers(temporal, ledger):
        cause = await ended_with(await start(temporal, a_job()))
    assert ledger.calls.count("fold-1") == 1
    assert "evaluate" not in ledger.calls
    assert [ended.status for ended in ledger.ended] == [RunStatus.FAILED]
    assert ledger.ended[0].model_name == "churn", "what may have been registered is taken back"
    failure = failure_of(cause)
    assert (failure.step, failure.reason, failure.error_class) == ("fold-1", "FIT_FAILED", "ValueError")
    assert (failure.message, failure.hint) == ("could not convert string to float: 'a'", "encode it")


async def test_a_step_outlives_more_workers_than_it_may_crash(time_skipping: WorkflowEnvironment) -> None:
    ledger = Ledger()

    async def replaced() -> None:
        if ledger.calls.count("fit") < 6:
            raise ApplicationError("Worker is shutting down", type="WorkerShutdown")

    ledger.behaviour["fit"] = replaced
    async with workers(time_skipping.client, ledger):
        outcome = await (await start(time_skipping.client, a_job(max_attempts=1, folds=0))).result()
    assert outcome.model_version == 1
    assert ledger.calls.count("fit") == 6


async def test_a_service_that_is_away_is_waited_for(time_skipping: WorkflowEnvironment) -> None:
    ledger = Ledger()

    async def away_at_first() -> None:
        if ledger.calls.count("log") < 12:
            await failing(errors.TrackingUnavailable("MLflow does not answer"), "log")

    ledger.behaviour["log"] = away_at_first
    async with workers(time_skipping.client, ledger):
        outcome = await (await start(time_skipping.client, a_job())).result()
    assert ledger.calls.count("log") == 12
    assert outcome.model_version == 1


async def test_the_first_failure_stops_the_other_fits(temporal: Client) -> None:
    ledger = Ledger()
    stopped: list[str] = []

    async def long() -> None:
        try:
            await until_cancelled()
        except asyncio.CancelledError:
            stopped.append("fold")
            raise

    async def fails_late() -> None:
        await until(lambda: {"fold-0", "fold-2"} <= set(ledger.calls))
        await failing(errors.DataInvalid("a column is missing"), "fold-1")

    ledger.behaviour |= {"fold-0": long, "fold-2": long, "fold-1": fails_late}
    async with workers(temporal, ledger):
        cause = await ended_with(await start(temporal, a_job()))
    assert failure_of(cause).reason == "DATA_INVALID"
    assert stopped == ["fold", "fold"]


async def test_a_cancelled_job_frees_its_cores_and_then_undoes_its_run(temporal: Client) -> None:
    ledger = Ledger()
    ledger.behaviour["fit"] = until_cancelled
    async with workers(temporal, ledger):
        handle = await start(temporal, a_job())
        await until(lambda: "fit" in ledger.calls)
        await handle.cancel()
        cause = await ended_with(handle)
    assert isinstance(cause, CancelledError)
    assert [(ended.status, ended.model_name) for ended in ledger.ended] == [(RunStatus.KILLED, "churn")]


async def test_a_job_cancelled_while_it_registers_takes_its_version_back(temporal: Client) -> None:
    ledger = Ledger()

    async def slow() -> None:
        await until_cancelled()

    ledger.behaviour["register"] = slow
    async with workers(temporal, ledger):
        handle = await start(temporal, a_job())
        await until(lambda: "register" in ledger.calls)
        await handle.cancel()
        await ended_with(handle)
    assert [(ended.status, ended.model_name) for ended in ledger.ended] == [(RunStatus.KILLED, "churn")]


async def test_a_step_over_its_time_limit_fails_the_job_at_once(temporal: Client) -> None:
    ledger = Ledger()
    late = errors.TimeLimitExceeded("The step ran longer than its time limit of 1 s; it was stopped", hint="more time")
    ledger.behaviour["fold-0"] = lambda: failing(late, "fold-0")
    async with workers(temporal, ledger):
        cause = await ended_with(await start(temporal, a_job()))
    assert ledger.calls.count("fold-0") == 1
    assert failure_of(cause).reason == "TIME_LIMIT_EXCEEDED"
    assert [ended.status for ended in ledger.ended] == [RunStatus.FAILED]


async def test_a_cancellation_during_the_compensation_does_not_break_it_off(temporal: Client) -> None:
    ledger = Ledger()
    cancelled = asyncio.Event()

    async def until_cancelled_once_more() -> None:
        await asyncio.wait_for(cancelled.wait(), 20)

    ledger.behaviour["fold-0"] = lambda: failing(errors.DataInvalid("a column is missing"), "fold-0")
    ledger.behaviour["end-run"] = until_cancelled_once_more
    async with workers(temporal, ledger):
        handle = await start(temporal, a_job())
        await until(lambda: "end-run" in ledger.calls)
        await handle.cancel()
        await asyncio.sleep(0.3)
        cancelled.set()
        cause = await ended_with(handle)
    assert failure_of(cause).reason == "DATA_INVALID", "how the job ended was settled before"
    assert ledger.calls.count("end-run") == 1


async def test_a_failed_compensation_does_not_hide_why_the_job_failed(temporal: Client) -> None:
    ledger = Ledger()
    ledger.behaviour["fit"] = lambda: failing(errors.FitFailed("no"), "fit")
    ledger.behaviour["end-run"] = lambda: failing(errors.PermissionDenied("the account is gone"), "finish")
    async with workers(temporal, ledger):
        cause = await ended_with(await start(temporal, a_job()))
    assert (failure_of(cause).reason, failure_of(cause).step) == ("FIT_FAILED", "fit")
