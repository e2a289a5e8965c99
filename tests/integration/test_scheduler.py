"""The gateway's scheduler on a real Temporal server, with stand-ins for the activities."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from mlops import errors
from mlops.gateway.scheduler import Scheduler
from mlops.jobs.job import JobFilter, JobState, StepState
from mlops.workers.tenancy import served_tenants
from tests.fixtures.activities import Ledger, failing, until_cancelled
from tests.fixtures.scheduler import a_plan, a_tenant, listed, submit, watched, workers


async def test_a_job_is_submitted_watched_and_read(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    async with workers(temporal, tenant, Ledger()):
        accepted = await submit(scheduler, tenant, "train-1")
        events = await watched(scheduler, tenant, "train-1")
    assert accepted.state is JobState.QUEUED
    states = [event.state for event in events if event.state]
    assert states == [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]
    assert {event.metrics_step for event in events if event.metrics} == {"fit", "fold-0", "fold-1", "evaluate"}
    job = events[-1].job
    assert job is not None
    assert job == await scheduler.get_job(tenant, "train-1")
    assert job.result is not None
    assert (job.result.model_uri, job.result.run_id) == ("models:/churn/1", "run-1")
    assert {step.step: step.state for step in job.steps}["fold-1"] is StepState.SUCCEEDED
    assert job.plan == a_plan()


async def test_a_watch_goes_on_behind_its_cursor(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    async with workers(temporal, tenant, Ledger()):
        await submit(scheduler, tenant, "train-1")
        # Numbers of running steps come and go with the moment, and carry the cursor of the event before them.
        seen = await watched(scheduler, tenant, "train-1")
        cursors = [event.cursor for event in seen]
        whole = [event for index, event in enumerate(seen) if event.job or cursors.index(event.cursor) == index]
        for index, event in enumerate(whole):
            assert await watched(scheduler, tenant, "train-1", event.cursor) == (whole[index + 1 :] or whole[-1:])


async def test_who_waits_gets_the_whole_job_at_its_end(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    await submit(scheduler, tenant, "train-1")
    waiting = asyncio.create_task(scheduler.ended_job(tenant, "train-1"))
    async with workers(temporal, tenant, Ledger()), asyncio.timeout(30):
        job = await waiting
    assert job.state is JobState.SUCCEEDED
    assert job == await scheduler.get_job(tenant, "train-1") == await scheduler.ended_job(tenant, "train-1")
    with pytest.raises(errors.NotFound):
        await scheduler.ended_job(tenant, "train-2")


async def test_a_cursor_of_nothing_is_refused(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    await submit(scheduler, tenant, "train-1")
    with pytest.raises(errors.InvalidRequest, match="cursor"):
        await watched(scheduler, tenant, "train-1", "no-cursor")


async def test_progress_inside_a_step_reaches_the_watcher(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    ledger = Ledger()
    ledger.behaviour["fit"] = until_cancelled
    async with workers(temporal, tenant, ledger):
        await submit(scheduler, tenant, "train-1")
        async with asyncio.timeout(20):
            async for event in scheduler.watch_job(tenant, "train-1", ""):
                if event.step and event.step.step == "fit" and event.step.state is StepState.RUNNING:
                    break
        await scheduler.cancel_job(tenant, "train-1", reason="seen enough", by="ada")
        assert (await watched(scheduler, tenant, "train-1"))[-1].job is not None
    assert (await scheduler.get_job(tenant, "train-1")).state is JobState.CANCELLED


async def test_a_failed_job_says_why(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    ledger = Ledger()
    problem = errors.FitFailed("Input X contains NaN.", error_class="ValueError", hint="Add a SimpleImputer")
    ledger.behaviour["fold-0"] = lambda: failing(problem, "fold-0")
    async with workers(temporal, tenant, ledger):
        await submit(scheduler, tenant, "train-1")
        job = (await watched(scheduler, tenant, "train-1"))[-1].job
    assert job is not None
    assert job.failure is not None
    assert job.state is JobState.FAILED
    assert (job.failure.step, job.failure.reason) == ("fold-0", "FIT_FAILED")
    assert (job.failure.message, job.failure.hint) == ("Input X contains NaN.", "Add a SimpleImputer")
    assert job.failure.error_class == "ValueError"


async def test_the_same_request_is_one_job_however_often_it_comes(scheduler: Scheduler, tenant: str) -> None:
    jobs = await asyncio.gather(*(submit(scheduler, tenant, "train-1") for _ in range(100)))
    assert {job.id for job in jobs} == {"train-1"}
    assert await listed(scheduler, tenant, 1) == ["train-1"]
    history = [
        event async for event in scheduler._namespace(tenant).get_workflow_handle("train-1").fetch_history_events()
    ]
    assert len([event for event in history if event.event_type == 1]) == 1


async def test_a_request_id_is_not_taken_for_a_different_request(scheduler: Scheduler, tenant: str) -> None:
    await submit(scheduler, tenant, "train-1")
    with pytest.raises(errors.RequestIdReused):
        await scheduler.start_training(tenant, job_id="train-1", owner="ada", plan=a_plan(seed=7), fingerprint="b" * 64)
    assert (await scheduler.get_job(tenant, "train-1")).plan == a_plan()


async def test_jobs_are_listed_newest_first_filtered_counted_and_paged(
    scheduler: Scheduler, temporal: Client, tenant: str
) -> None:
    ledger = Ledger()
    async with workers(temporal, tenant, ledger):
        for index in range(5):
            await submit(scheduler, tenant, f"done-{index}", name=f"alpha-{index}", labels={"team": "red"})
            await watched(scheduler, tenant, f"done-{index}")
    for index in range(3):
        await submit(scheduler, tenant, f"open-{index}", name="it's beta", labels={"team": "blue"})
    newest = ["open-2", "open-1", "open-0", "done-4", "done-3", "done-2", "done-1", "done-0"]
    assert await listed(scheduler, tenant, 8) == newest
    assert await listed(scheduler, tenant, 3, states=(JobState.QUEUED,)) == newest[:3]
    assert await listed(scheduler, tenant, 5, states=(JobState.SUCCEEDED, JobState.FAILED)) == newest[3:]
    assert await listed(scheduler, tenant, 5, name="alpha-*") == newest[3:]
    assert await listed(scheduler, tenant, 3, name="it's beta") == newest[:3]
    assert await listed(scheduler, tenant, 5, labels={"team": "red"}) == newest[3:]
    assert await listed(scheduler, tenant, 0, owner="bob") == []
    third = (await scheduler.get_job(tenant, "done-2")).created_at
    assert await listed(scheduler, tenant, 6, created_after=third) == newest[:6]
    assert await listed(scheduler, tenant, 2, created_before=third) == newest[6:]

    seen, token = [], ""
    while True:
        page = await scheduler.list_jobs(tenant, JobFilter(), page_size=3, page_token=token)
        seen += [job.id for job in page.jobs]
        assert page.counts[JobState.QUEUED] == 3
        assert page.counts[JobState.SUCCEEDED] == 5
        token = page.next_page_token
        if not token:
            break
    assert seen == newest
    first = await scheduler.list_jobs(tenant, JobFilter(), page_size=3, page_token="")
    with pytest.raises(errors.InvalidRequest, match="page_token"):
        await scheduler.list_jobs(tenant, JobFilter(owner="ada"), page_size=3, page_token=first.next_page_token)


async def test_an_ended_job_is_deleted_and_a_running_one_is_not(
    scheduler: Scheduler, temporal: Client, tenant: str
) -> None:
    async with workers(temporal, tenant, Ledger()):
        await submit(scheduler, tenant, "train-1")
        await watched(scheduler, tenant, "train-1")
    await submit(scheduler, tenant, "train-2")
    await scheduler.delete_job(tenant, "train-1")
    assert await listed(scheduler, tenant, 1) == ["train-2"]
    with pytest.raises(errors.NotFound):
        await scheduler.get_job(tenant, "train-1")
    with pytest.raises(errors.FailedPrecondition):
        await scheduler.delete_job(tenant, "train-2")
    assert await scheduler.active_jobs(tenant) == 1
    assert await scheduler.dataset_in_use(tenant, a_plan().dataset_id)
    assert not await scheduler.dataset_in_use(tenant, "ds-" + "1" * 32)


async def test_one_tenant_sees_nothing_of_another(scheduler: Scheduler, tenant: str) -> None:
    stranger = f"t-{uuid4().hex[:10]}"
    await scheduler.provider.ensure(a_tenant(stranger))
    await submit(scheduler, tenant, "train-1")
    assert await listed(scheduler, stranger, 0) == []
    for call in (
        scheduler.get_job(stranger, "train-1"),
        scheduler.cancel_job(stranger, "train-1", reason="", by="eve"),
        scheduler.delete_job(stranger, "train-1"),
        watched(scheduler, stranger, "train-1"),
    ):
        with pytest.raises(errors.NotFound):
            await call
    await scheduler.provider.remove(stranger)


async def test_a_namespace_is_made_once_kept_true_and_removed(scheduler: Scheduler, temporal: Client) -> None:
    slug = f"t-{uuid4().hex[:10]}"
    await asyncio.gather(*(scheduler.provider.ensure(a_tenant(slug)) for _ in range(3)))
    await scheduler.provider.ensure(a_tenant(slug, weight=3.5))
    assert {tenant.slug: tenant.weight for tenant in await served_tenants(temporal)}[slug] == 3.5
    await scheduler.provider.remove(slug)
    await scheduler.provider.remove(slug)
    assert slug not in {tenant.slug for tenant in await served_tenants(temporal)}


async def test_a_retried_request_does_not_change_the_plan_of_its_running_job(scheduler: Scheduler, tenant: str) -> None:
    await submit(scheduler, tenant, "train-1")
    # The name of the dataset stands for newer data by now; the request is the same.
    await submit(scheduler, tenant, "train-1", dataset_id="ds-" + "9" * 32)
    assert (await scheduler.get_job(tenant, "train-1")).plan == a_plan()


async def test_the_id_of_a_deleted_job_is_not_taken_again(scheduler: Scheduler, temporal: Client, tenant: str) -> None:
    async with workers(temporal, tenant, Ledger()):
        await submit(scheduler, tenant, "train-1")
        await watched(scheduler, tenant, "train-1")
    await scheduler.delete_job(tenant, "train-1")
    with pytest.raises(errors.RequestIdReused):
        await submit(scheduler, tenant, "train-1")


async def test_a_foreign_namespace_is_not_taken_over(scheduler: Scheduler, temporal: Client) -> None:
    slug = f"t-{uuid4().hex[:10]}"
    retention = Duration(seconds=86400)
    await temporal.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=slug, description="payments", workflow_execution_retention_period=retention)
    )
    deadline = time.monotonic() + 20
    while True:  # a new namespace takes a moment to be seen
        with pytest.raises((errors.FailedPrecondition, errors.NotFound)) as refused:
            await scheduler.provider.ensure(a_tenant(slug))
        if refused.type is errors.FailedPrecondition:
            break
        assert time.monotonic() < deadline
    assert slug not in {served.slug for served in await served_tenants(temporal)}
