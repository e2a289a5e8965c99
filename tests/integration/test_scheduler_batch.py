"""Batch jobs and retries on a real Temporal server; what the shards do is only noted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from mlops import errors, names
from mlops.gateway.scheduler.scheduler import Scheduler
from mlops.jobs.card import PredictMethod
from mlops.jobs.dataset import ReadOptions
from mlops.jobs.inference import BatchInferencePlan, BatchManifest, BatchReport, OnBadRow, OutputFormat
from mlops.jobs.job import Job, JobKind, JobState, StepState
from mlops.jobs.training import Resources
from mlops.storage.objects import ObjectStore
from tests.fixtures.activities import Ledger, failing, until_cancelled
from tests.fixtures.scheduler import FINGERPRINT, SHARDS, listed, submit, watched, workers

JOB = "batch-1"


def a_batch_plan(**changes: Any) -> BatchInferencePlan:
    given: dict[str, Any] = {
        "name": "scores",
        "model_name": "churn",
        "model_version": 3,
        "model_alias": "champion",
        "model_id": "m-0123456789abcdef",
        "dataset_id": "ds-" + "0" * 32,
        "dataset_name": "customers",
        "uri": None,
        "read_options": ReadOptions(),
        "rows": 30,
        "max_bytes": 1000,
        "outputs": (PredictMethod.PREDICT,),
        "carry": ("id",),
        "output_format": OutputFormat.PARQUET,
        "rows_per_shard": 10,
        "on_bad_row": OnBadRow.FAIL,
        "max_rejects": None,
        "target": None,
        "resources": Resources(),
        "time_limit": timedelta(minutes=10),
        "max_attempts": 2,
        "labels": {},
    }
    return BatchInferencePlan(**{**given, **changes})


async def submit_batch(scheduler: Scheduler, tenant: str, **changes: Any) -> Job:
    return await scheduler.start_batch(
        tenant, job_id=JOB, owner="ada", plan=a_batch_plan(**changes), fingerprint=FINGERPRINT
    )


async def ended(scheduler: Scheduler, tenant: str) -> Job:
    async with asyncio.timeout(30):
        return await scheduler.ended_job(tenant, JOB)


async def test_a_batch_job_shows_its_shards_as_one_step_and_ends_with_its_manifest(
    scheduler: Scheduler, temporal: Client, tenant: str, objects: ObjectStore
) -> None:
    report = BatchReport(rows=30, rejected_rows=3, files=())
    manifest = BatchManifest(
        job_id=JOB,
        model_name="churn",
        model_version=3,
        dataset_id=None,
        source_uri=None,
        committed_at="2026-01-01T00:00:00Z",
        report=report,
    )
    folder = names.result_prefix(tenant, JOB)
    await objects.write_bytes(f"{folder}/{names.MANIFEST_FILE}", manifest.model_dump_json().encode())
    async with workers(temporal, tenant, Ledger()):
        accepted = await submit_batch(scheduler, tenant)
        events = await watched(scheduler, tenant, JOB)
    assert (accepted.kind, accepted.state, accepted.batch_plan) == (
        JobKind.BATCH_INFERENCE,
        JobState.QUEUED,
        a_batch_plan(),
    )
    steps = list(dict.fromkeys(event.step.step for event in events if event.step))
    assert steps == ["plan", "predict", "summarise", "commit"]
    job = events[-1].job
    assert job is not None
    assert job.batch_result is not None
    assert job.batch_result.report == report
    assert job.batch_result.uri.endswith(f"/{folder}")
    assert (job.plan, job.result, job.attempt) == (None, None, 1)
    assert await listed(scheduler, tenant, 1, kinds=(JobKind.BATCH_INFERENCE,)) == [JOB]
    assert await listed(scheduler, tenant, 0, kinds=(JobKind.TRAINING,)) == []
    assert await listed(scheduler, tenant, 1) == [JOB], "the workflow of the shards is no job"


async def test_running_shards_tell_how_many_rows_are_done(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    ledger = Ledger()
    ledger.behaviour["shard-00002"] = until_cancelled
    async with workers(temporal, tenant, ledger):
        await submit_batch(scheduler, tenant)
        async with asyncio.timeout(20):
            async for event in scheduler.watch_job(tenant, JOB, ""):
                step = event.step
                if step is not None and step.step == "predict" and step.values.get("rows") == 20.0:
                    break
        assert step is not None
        assert step.fraction == pytest.approx(2 / SHARDS)
        assert "20 of 30 rows" in step.message
        assert step in (await scheduler.get_job(tenant, JOB)).steps or step.values["rows_per_second"] > 0
        await scheduler.cancel_job(tenant, JOB, reason="seen enough", by="ada")
        assert (await ended(scheduler, tenant)).state is JobState.CANCELLED


async def test_a_failed_job_that_is_retried_runs_again_under_its_id_and_is_listed_once(
    scheduler: Scheduler, temporal: Client, tenant: str
) -> None:
    ledger = Ledger()
    ledger.behaviour["shard-00001"] = lambda: failing(errors.DataInvalid("row 12 is bad"), "shard-00001")
    async with workers(temporal, tenant, ledger):
        await submit_batch(scheduler, tenant)
        failed = await ended(scheduler, tenant)
        assert failed.failure is not None
        assert (failed.failure.step, failed.failure.message) == ("shard-00001", "row 12 is bad")
        before = await watched(scheduler, tenant, JOB)
        del ledger.behaviour["shard-00001"]
        again = await scheduler.retry_job(tenant, JOB, by="ada")
        assert (again.id, again.attempt) == (JOB, 2)
        done = await ended(scheduler, tenant)
        # Who watched the first attempt to its end is told all of the second.
        after = await watched(scheduler, tenant, JOB, before[-1].cursor)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)
    assert [event.state for event in after if event.state] == [
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.SUCCEEDED,
    ]
    assert await listed(scheduler, tenant, 1) == [JOB]
    with pytest.raises(errors.FailedPrecondition, match="has succeeded"):
        await scheduler.retry_job(tenant, JOB, by="ada")


async def test_retries_at_the_same_moment_start_one_run(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    ledger = Ledger()
    ledger.behaviour["plan"] = lambda: failing(errors.DataInvalid("no"), "plan")
    async with workers(temporal, tenant, ledger):
        await submit_batch(scheduler, tenant)
        await ended(scheduler, tenant)
        ledger.behaviour["plan"] = until_cancelled
        jobs = await asyncio.gather(*(scheduler.retry_job(tenant, JOB, by="ada") for _ in range(8)))
        assert {job.attempt for job in jobs} == {2}
        await scheduler.cancel_job(tenant, JOB, reason="", by="ada")
        assert (await ended(scheduler, tenant)).attempt == 2


async def test_a_cancelled_training_can_be_retried_too(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    ledger = Ledger()
    ledger.behaviour["fold-1"] = until_cancelled
    async with workers(temporal, tenant, ledger):
        await submit(scheduler, tenant, "train-1")
        async with asyncio.timeout(20):
            while "fold-1" not in ledger.calls:
                await asyncio.sleep(0.02)
        await scheduler.cancel_job(tenant, "train-1", reason="", by="ada")
        async with asyncio.timeout(30):
            assert (await scheduler.ended_job(tenant, "train-1")).state is JobState.CANCELLED
        del ledger.behaviour["fold-1"]
        await scheduler.retry_job(tenant, "train-1", by="bob")
        async with asyncio.timeout(30):
            job = await scheduler.ended_job(tenant, "train-1")
    assert (job.state, job.attempt, job.owner) == (JobState.SUCCEEDED, 2, "ada")
    assert {step.step: step.state for step in job.steps}["fold-1"] is StepState.SUCCEEDED


async def test_a_retried_job_that_is_unknown_or_foreign_is_not_found(scheduler: Scheduler, tenant: str) -> None:
    for job_id in ("batch-2", names.shards_workflow(JOB)):
        with pytest.raises(errors.NotFound):
            await scheduler.retry_job(tenant, job_id, by="ada")


async def test_a_request_whose_job_is_forgotten_is_refused_and_uses_none_of_its_files(
    scheduler: Scheduler, tenant: str, objects: ObjectStore
) -> None:
    await objects.write_bytes(names.request_key(tenant, JOB), FINGERPRINT.encode())
    with pytest.raises(errors.RequestIdReused, match="forgotten"):
        await submit_batch(scheduler, tenant)
