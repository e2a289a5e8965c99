"""The batch workflow on the time-skipping test server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.converter import PayloadConverter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from mlops import errors, names
from mlops.jobs.inference import BatchJob, BatchOutcome, ShardsProgress
from mlops.workers.sandbox import SANDBOX
from mlops.workflows import shards
from mlops.workflows.batch_inference import BatchInferenceWorkflow
from mlops.workflows.failures import failure_of
from tests.fixtures.activities import FakeBatchCpu, FakeBatchIo, Ledger, failing, until_cancelled


def a_job(**changes: Any) -> BatchJob:
    given: dict[str, Any] = {
        "tenant": "acme",
        "job_id": f"batch-{uuid4().hex[:12]}",
        "owner": "ada",
        "plan_sha256": "f" * 64,
        "copies_input": False,
        "time_limit": timedelta(hours=1),
        "max_attempts": 3,
    }
    return BatchJob(**{**given, **changes})


@asynccontextmanager
async def workers(client: Client, ledger: Ledger, *, count: int = 5) -> AsyncIterator[FakeBatchCpu]:
    cpu, io = FakeBatchCpu(ledger, shards=count), FakeBatchIo(ledger)
    async with (
        Worker(
            client,
            task_queue=names.IO_QUEUE,
            workflows=[BatchInferenceWorkflow, shards.ShardsWorkflow],
            activities=[io.copy_input, io.commit_batch],
            workflow_runner=SANDBOX,
            build_id="test",
        ),
        Worker(
            client,
            task_queue=names.CPU_QUEUE,
            activities=[cpu.plan_shards, cpu.predict_shard, cpu.summarise_batch],
            build_id="test",
            max_heartbeat_throttle_interval=timedelta(milliseconds=100),
        ),
    ):
        yield cpu


async def run(client: Client, job: BatchJob) -> BatchOutcome:
    handle = await client.start_workflow(BatchInferenceWorkflow.run, job, id=job.job_id, task_queue=names.IO_QUEUE)
    outcome: BatchOutcome = await asyncio.wait_for(handle.result(), 60)
    return outcome


async def test_a_job_plans_predicts_sums_up_and_commits_last(time_skipping: WorkflowEnvironment) -> None:
    ledger = Ledger()
    async with workers(time_skipping.client, ledger, count=3) as cpu:
        outcome = await run(time_skipping.client, a_job())
    assert ledger.calls[0] == "plan"
    assert sorted(ledger.calls[1:4]) == ["shard-00000", "shard-00001", "shard-00002"]
    assert ledger.calls[4:] == ["summarise", "commit"]
    assert (outcome.model_name, outcome.model_version) == ("churn", 3)
    assert cpu.owner == "ada"


async def test_an_input_at_a_uri_is_copied_first(time_skipping: WorkflowEnvironment) -> None:
    ledger = Ledger()
    async with workers(time_skipping.client, ledger):
        await run(time_skipping.client, a_job(copies_input=True))
    assert ledger.calls[:2] == ["copy", "plan"]


async def test_shards_slide_through_a_window_and_the_workflow_continues_as_new(
    time_skipping: WorkflowEnvironment,
) -> None:
    ledger, job = Ledger(), a_job()
    count = shards.SHARDS_A_RUN + 20
    async with workers(time_skipping.client, ledger, count=count) as cpu:
        await run(time_skipping.client, job)
    predicted = [call for call in ledger.calls if call.startswith("shard-")]
    assert sorted(predicted) == [names.shard_step(index) for index in range(count)], "each shard exactly once"
    assert 1 < cpu.most <= shards.WINDOW
    described = await time_skipping.client.get_workflow_handle(names.shards_workflow(job.job_id)).describe()
    payload = described.raw_description.workflow_execution_info.memo.fields[names.MEMO_SHARDS]
    converter: PayloadConverter = time_skipping.client.data_converter.payload_converter
    progress = converter.from_payload(payload, ShardsProgress)
    assert (progress.done_shards, progress.done_rows, progress.rejected_rows) == (count, 10 * count, count)
    assert described.raw_description.workflow_execution_info.first_run_id != described.run_id


async def test_a_shard_that_fails_for_a_passing_reason_is_tried_again_alone(
    time_skipping: WorkflowEnvironment,
) -> None:
    ledger, tries = Ledger(), 0

    async def crash_once() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await failing(errors.ChildCrashed("the child died"), "shard-00002")

    ledger.behaviour["shard-00002"] = crash_once
    async with workers(time_skipping.client, ledger):
        await run(time_skipping.client, a_job())
    assert sorted(call for call in ledger.calls if call.startswith("shard-")) == [
        "shard-00000", "shard-00001", "shard-00002", "shard-00002", "shard-00003", "shard-00004",
    ]  # fmt: skip


async def test_a_poisoned_row_fails_the_job_with_its_report_and_commits_nothing(
    time_skipping: WorkflowEnvironment,
) -> None:
    ledger = Ledger()
    refused = errors.DataInvalid("row 12: column 'age' is missing", hint="set on_bad_row to reject")
    ledger.behaviour["shard-00001"] = lambda: failing(refused, "shard-00001")
    async with workers(time_skipping.client, ledger):
        with pytest.raises(WorkflowFailureError) as failed:
            await run(time_skipping.client, a_job())
    assert failed.value.cause is not None
    failure = failure_of(failed.value.cause)
    assert (failure.step, failure.reason) == ("shard-00001", "DATA_INVALID")
    assert failure.message == "row 12: column 'age' is missing"
    assert failure.hint == "set on_bad_row to reject"
    assert ledger.calls.count("shard-00001") == 1, "what cannot get better is not tried again"
    assert "commit" not in ledger.calls


async def test_a_cancelled_job_stops_its_shards_and_commits_nothing(temporal: Client) -> None:
    ledger = Ledger()
    ledger.behaviour |= {names.shard_step(index): until_cancelled for index in range(5)}
    job = a_job()
    async with workers(temporal, ledger):
        handle = await temporal.start_workflow(
            BatchInferenceWorkflow.run, job, id=job.job_id, task_queue=names.IO_QUEUE
        )
        deadline = asyncio.get_running_loop().time() + 20
        while sum(call.startswith("shard-") for call in ledger.calls) < 5:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 30)
        child = await temporal.get_workflow_handle(names.shards_workflow(job.job_id)).describe()
    assert child.status is not None
    assert child.status.name == "CANCELED"
    assert "commit" not in ledger.calls


@pytest.mark.parametrize("step", ["copy", "plan", "summarise"])
async def test_a_cancellation_that_a_step_swallows_ends_the_job_behind_it(temporal: Client, step: str) -> None:
    ledger, asked = Ledger(), asyncio.Event()
    # It never hears of the cancellation, and ends well.
    ledger.behaviour[step] = lambda: _until(asked)
    job = a_job(copies_input=True)
    async with workers(temporal, ledger):
        handle = await temporal.start_workflow(
            BatchInferenceWorkflow.run, job, id=job.job_id, task_queue=names.IO_QUEUE
        )
        async with asyncio.timeout(20):
            while step not in ledger.calls:
                await asyncio.sleep(0.02)
        await handle.cancel()
        asked.set()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 30)
        described = await handle.describe()
    assert described.status is not None
    assert described.status.name == "CANCELED"
    assert ledger.calls[-1] == step, "nothing is begun any more"


async def _until(asked: asyncio.Event) -> None:
    await asked.wait()
