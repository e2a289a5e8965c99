"""The CPU activities: each fetches its data, waits for its cores, and runs one function in a killable child."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import stamina
from temporalio import activity
from temporalio.client import Client

from mlops import errors, names
from mlops.activities.delivery import deliver
from mlops.activities.failures import as_application_error, translated
from mlops.activities.heartbeat import Heartbeat
from mlops.activities.plans import read_plan
from mlops.jobs.dataset import IngestedFiles, IngestTask
from mlops.jobs.job import StepState
from mlops.jobs.report import Evaluated, StepResult, TrainingReport
from mlops.jobs.training import GIB, Resources, StepOrder, StepTask, TrainingPlan
from mlops.ml.evaluation import EvaluateCall, evaluate
from mlops.ml.ingest import IngestCall, ingest
from mlops.ml.training import StepCall, fit_step
from mlops.storage.cache import HostCache
from mlops.storage.objects import ObjectStore
from mlops.workflows import stubs

# Steps that took longer than this deliver their result themselves.
LONG_STEP_SECONDS = 5.0
INGEST_TRIES = 2
INGEST_MEMORY_BYTES = 4 * GIB
INGEST_TIME_LIMIT = timedelta(hours=6)
OTHER_HOST_DELAY = timedelta(seconds=5)

Call = TypeVar("Call", contravariant=True)
OnProgress = Callable[[float | None, str, dict[str, float]], None]


class Outcome(Protocol):
    """What a run in the pool gave."""

    @property
    def value(self) -> Any:
        """What the function returned."""

    @property
    def peak_memory_bytes(self) -> int:
        """The most that the child held of its own."""

    @property
    def seconds(self) -> float:
        """How long the function ran."""


class Pool(Protocol):
    """Runs a function in a child that can be killed."""

    async def run(
        self,
        function: Callable[[Any, Any], Any],
        call: Any,
        *,
        threads: int,
        memory_bytes: int,
        time_limit: timedelta | None,
        on_progress: OnProgress,
    ) -> Outcome:
        """Cancelling the wait kills the child."""
        ...


class Cores(Protocol):
    """Decides who gets the next core of this host."""

    def lease(self, tenant: str, cpus: int, memory_bytes: int) -> AbstractAsyncContextManager[None]:
        """Holds cores while the block runs."""
        ...


@dataclass(frozen=True, kw_only=True)
class CpuHost:
    """What all tenants of a CPU host share."""

    store: ObjectStore
    cache: HostCache
    pool: Pool
    cores: Cores
    scratch: Path
    # Memory that one child may be given.
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one step may use, and how often it may crash."""

    resources: Resources
    time_limit: timedelta
    max_attempts: int

    @classmethod
    def of(cls, plan: TrainingPlan) -> Self:
        """The limits that a job asked for."""
        return cls(resources=plan.resources, time_limit=plan.time_limit, max_attempts=plan.max_attempts)


class CpuWork(stubs.CpuActivities):
    """The CPU activities of one tenant."""

    def __init__(self, host: CpuHost, *, tenant: str, client: Client) -> None:
        self._host = host
        self._tenant = tenant
        self._client = client

    @activity.defn
    async def ingest_dataset(self, task: IngestTask) -> IngestedFiles:
        """Reads stored bytes into the canonical Arrow file, the preview and the profile."""
        with translated(names.INGEST_STEP):
            self._check(task.tenant)
            store, blob = self._host.store, names.blob_key(task.tenant, task.sha256)
            if not await store.exists(names.dataset_profile_key(task.tenant, task.dataset_id)):
                async with self._work(names.INGEST_STEP) as (out, beat):
                    source = out.parent / "source"
                    await store.get_file(blob, source, share=True)
                    limits = Limits(
                        resources=Resources(memory_bytes=min(INGEST_MEMORY_BYTES, self._host.memory_bytes)),
                        time_limit=INGEST_TIME_LIMIT,
                        max_attempts=INGEST_TRIES,
                    )
                    outcome = await self._run(ingest, IngestCall(task=task, source=source, out=out), limits, beat)
                    (out / names.PROFILE_FILE).write_text(outcome.value.model_dump_json())
                    prefix = names.dataset_prefix(task.tenant, task.dataset_id)
                    await self._put(prefix, out, last=names.PROFILE_FILE)
            return IngestedFiles(dataset_id=task.dataset_id, sha256=task.sha256, size_bytes=await store.size(blob))

    @activity.defn
    async def fit_step(self, order: StepOrder) -> StepResult:
        """Fits and scores one fold, or the final model; a step that is in storage already is not done again."""
        with translated(order.step):
            self._check(order.tenant)
            prefix = names.step_prefix(order.tenant, order.job_id, order.step)
            done = await self._stored(f"{prefix}/{names.STEP_RESULT}", StepResult)
            seconds = 0.0
            if done is None:
                plan = await read_plan(self._host.store, order)
                async with self._work(order.step) as (out, beat), self._data(order, plan) as data:
                    call = StepCall(task=_task(order, plan), data=data, out=out)
                    outcome = await self._run(fit_step, call, Limits.of(plan), beat)
                    seconds = outcome.seconds
                    done = outcome.value.model_copy(update={"peak_memory_bytes": outcome.peak_memory_bytes})
                    (out / names.STEP_RESULT).write_text(done.model_dump_json())
                    await self._put(prefix, out)
                    if seconds > LONG_STEP_SECONDS:
                        await deliver(self._client, _without_progress(done))
            return _without_progress(done)

    @activity.defn
    async def evaluate(self, order: StepOrder) -> Evaluated:
        """Makes the report and the plots out of what the fits left in storage."""
        with translated(order.step):
            self._check(order.tenant)
            prefix = names.step_prefix(order.tenant, order.job_id, order.step)
            report = await self._stored(f"{prefix}/{names.STEP_REPORT}", TrainingReport)
            if report is None:
                plan = await read_plan(self._host.store, order)
                async with self._work(order.step) as (out, beat):
                    inputs = {
                        step: await self._results(order, step, out.parent / step)
                        for step in (names.FIT_STEP, *(names.fold_step(i) for i in range(plan.folds)))
                    }
                    call = EvaluateCall(task=_task(order, plan), inputs=inputs, out=out)
                    outcome = await self._run(evaluate, call, Limits.of(plan), beat)
                    report = outcome.value
                    await self._put(prefix, out, last=names.STEP_REPORT)
            return Evaluated(
                metrics={**{m.name: m.mean for m in report.cross_validation}, **report.holdout},
            )

    def _check(self, tenant: str) -> None:
        """The namespace is the wall: an order that names another tenant is no order of ours."""
        if tenant != self._tenant:
            raise errors.PermissionDenied(f"An order for tenant {tenant!r} arrived in the namespace of another")

    @asynccontextmanager
    async def _work(self, step: str) -> AsyncIterator[tuple[Path, Heartbeat]]:
        """A directory of this try's own, gone at its end, and a heart that beats meanwhile."""
        self._host.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._host.scratch, ignore_cleanup_errors=True) as directory:
            out = Path(directory) / "out"
            out.mkdir()
            async with Heartbeat(step) as beat:
                yield out, beat

    def _data(self, order: StepOrder, plan: TrainingPlan) -> AbstractAsyncContextManager[Path]:
        return self._host.cache.hold(self._host.store, names.dataset_key(order.tenant, plan.dataset_id))

    async def _run(self, function: Callable[[Any, Any], Any], call: Any, limits: Limits, beat: Heartbeat) -> Outcome:
        resources = limits.resources
        beat.show(StepState.WAITING, message="waiting for a free core")
        async with self._leased(resources, beat.step):
            beat.show(StepState.RUNNING)
            try:
                return await self._host.pool.run(
                    function,
                    call,
                    threads=resources.cpus,
                    memory_bytes=resources.memory_bytes,
                    time_limit=limits.time_limit,
                    on_progress=lambda fraction, message, values: beat.show(
                        StepState.RUNNING, fraction, message, values
                    ),
                )
            except errors.ChildCrashed as error:
                again = activity.info().attempt < limits.max_attempts
                raise as_application_error(error, step=beat.step, retryable=again) from error

    @asynccontextmanager
    async def _leased(self, resources: Resources, step: str) -> AsyncIterator[None]:
        """The step's cores, once they are free. A step that this host can never fit is left to a larger one."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(
                    self._host.cores.lease(self._tenant, resources.cpus, resources.memory_bytes)
                )
            except errors.QuotaExceeded as error:
                raise as_application_error(error, step=step, retryable=True, delay=OTHER_HOST_DELAY) from error
            yield

    async def _results(self, order: StepOrder, step: str, into: Path) -> Path:
        """A step's files, without its model."""
        into.mkdir()
        prefix = names.step_prefix(order.tenant, order.job_id, step)
        for key in await self._host.store.list(prefix):
            name = key.removeprefix(f"{prefix}/")
            if name != names.STEP_MODEL and "/" not in name:
                await self._host.store.get_file(key, into / name)
        return into

    async def _stored(self, key: str, kind: type[Stored]) -> Stored | None:
        """The value that an earlier try left under the key, if one did."""
        if not await self._host.store.exists(key):
            return None
        return kind.model_validate_json(await self._host.store.read_bytes(key))

    async def _put(self, prefix: str, directory: Path, *, last: str = names.STEP_RESULT) -> None:
        """Stores a finished try; a store that is away for a while costs no work."""
        async for attempt in stamina.retry_context(on=errors.StorageUnavailable, attempts=None, timeout=120.0):
            with attempt:
                await self._host.store.put_dir(prefix, directory, last=last)


Stored = TypeVar("Stored", StepResult, TrainingReport)


def _task(order: StepOrder, plan: TrainingPlan) -> StepTask:
    return StepTask(tenant=order.tenant, job_id=order.job_id, step=order.step, plan=plan, fold=order.fold)


def _without_progress(result: StepResult) -> StepResult:
    """What the history keeps: the progress points stay in storage."""
    return result.model_copy(update={"progress": ()})
