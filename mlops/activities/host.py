"""A step on a CPU host: its directory, its cores, its killable child, and its files in storage."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import stamina
from pydantic import BaseModel
from temporalio import activity
from temporalio.client import Client

from mlops import errors, names
from mlops.activities.failures import as_application_error
from mlops.activities.heartbeat import Heartbeat
from mlops.jobs.inference import BatchInferencePlan
from mlops.jobs.job import StepState
from mlops.jobs.training import Resources, TrainingPlan
from mlops.storage.cache import HostCache
from mlops.storage.objects import ObjectStore

OTHER_HOST_DELAY = timedelta(seconds=5)

Stored = TypeVar("Stored", bound=BaseModel)
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
        keeper: str = "",
    ) -> Outcome:
        """Cancelling the wait kills the child. What is loaded may be kept for runs of the same keeper."""
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
    def of(cls, plan: TrainingPlan | BatchInferencePlan) -> Self:
        """The limits that a job asked for."""
        return cls(resources=plan.resources, time_limit=plan.time_limit, max_attempts=plan.max_attempts)


class CpuSteps:
    """What the CPU activities of one tenant are made of."""

    def __init__(self, host: CpuHost, *, tenant: str, client: Client) -> None:
        self._host = host
        self._tenant = tenant
        self._client = client

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

    async def _run(
        self,
        function: Callable[[Any, Any], Any],
        call: Any,
        limits: Limits,
        beat: Heartbeat,
        *,
        keeps_loaded: bool = False,
    ) -> Outcome:
        """Runs a function in a child, once this host has cores for it.

        keeps_loaded: what it loads is kept for the tenant's next run.
        """
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
                    keeper=self._tenant if keeps_loaded else "",
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

    async def _stored(self, key: str, kind: type[Stored]) -> Stored | None:
        """The value that an earlier try left under the key, if one did."""
        if not await self._host.store.exists(key):
            return None
        return await self._read(key, kind)

    async def _read(self, key: str, kind: type[Stored]) -> Stored:
        """A value from storage. Raises NotFound."""
        return kind.model_validate_json(await self._host.store.read_bytes(key))

    async def _put(self, prefix: str, directory: Path, *, last: str | None = names.STEP_RESULT) -> None:
        """Stores a finished try; a store that is away for a while costs no work."""
        async for attempt in _patiently():
            with attempt:
                await self._host.store.put_dir(prefix, directory, last=last)

    async def _put_file(self, key: str, path: Path) -> None:
        """Stores a file, as patiently."""
        async for attempt in _patiently():
            with attempt:
                await self._host.store.put_file(key, path)

    async def _write(self, key: str, value: BaseModel) -> None:
        """Stores a value, as patiently."""
        async for attempt in _patiently():
            with attempt:
                await self._host.store.write_bytes(key, value.model_dump_json().encode())


def _patiently() -> AsyncIterator[stamina.Attempt]:
    return stamina.retry_context(on=errors.StorageUnavailable, attempts=None, timeout=120.0)
