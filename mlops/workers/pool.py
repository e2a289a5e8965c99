"""The process pool: runs functions in child processes that can be killed, each within its own limits.

A child's death fails the run it had and no other. The pool is used from one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from mlops import errors
from mlops.workers import memory
from mlops.workers.messages import Raised, Task, encode
from mlops.workers.nursery import Child, Nursery
from mlops.workers.preload import MODELS
from mlops.workers.run import KILLED_SECONDS, OnProgress, Run, closed

logger = logging.getLogger(__name__)

Call = TypeVar("Call")
Result = TypeVar("Result")

# What every step needs, imported once and shared by all children.
PRELOAD = (
    *MODELS,
    "sklearn.inspection",
    "sklearn.metrics",
    "mlops.ml.batch.plan",
    "mlops.ml.batch.predict",
    "mlops.ml.batch.summary",
    "mlops.ml.evaluation",
    "mlops.ml.ingest",
    "mlops.ml.onnx_export",
    # matplotlib takes a second to import, which every evaluation would wait for.
    "mlops.ml.plots",
    "mlops.ml.training",
)
# Between two tries to fork a child, where children die young: doubles from the first to the second.
RETRY_SECONDS = (0.1, 5.0)
NO_GRACE = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Result]):
    """What a run gave."""

    value: Result
    # The most that the child and what it started held of their own beyond what it held before, as sampled.
    peak_memory_bytes: int
    # How long the function ran.
    seconds: float


class ProcessPool:
    """Children that wait for work. Every limit is a run's own; how many cores run at once is for others to say."""

    def __init__(
        self,
        slots: int,
        *,
        preload: Sequence[str] = PRELOAD,
        stop_grace: timedelta = timedelta(milliseconds=300),
        idle_memory_bytes: int = 128 * 1024**2,
        kept_memory_bytes: int = 512 * 1024**2,
    ) -> None:
        """slots: children, and so runs at a time.

        preload: modules that are imported before a child is forked.
        stop_grace: how long a cancelled run may take to end by itself before it is killed.
        idle_memory_bytes: a child that keeps more than this from a run is replaced, so that the next run neither
        pays for it nor profits from it.
        kept_memory_bytes: the same for a child that keeps what it has loaded for runs to come (see `run`).
        """
        if slots < 1:
            raise ValueError(f"a pool needs at least one slot, got {slots}")
        self._slots = slots
        self._stop_grace = stop_grace
        self._idle_memory_bytes = idle_memory_bytes
        self._kept_memory_bytes = kept_memory_bytes
        self._nursery = Nursery(preload)
        # The last one is taken first: a child that has just worked is warm.
        self._idle: list[Child] = []
        self._waiting: list[asyncio.Future[None]] = []
        # Children that keep what they have loaded, and for whom.
        self._keepers: dict[Child, str] = {}
        self._fresh_bytes: dict[Child, int] = {}
        self._runs: dict[Child, Run] = {}
        self._quiet = asyncio.Event()  # set while nothing runs
        self._quiet.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Imports the modules and forks the children. Raises errors.Internal where that fails."""
        try:
            for _ in range(self._slots):
                await self._add_child()
        except BaseException:
            await self.close()
            raise

    async def close(self, grace: timedelta = NO_GRACE) -> None:
        """Takes no more runs, gives those that run the grace to finish, and ends every child."""
        if self._closing:
            return
        self._closing = True
        self._wake()
        await self._quiet_within(grace)
        for run in self._runs.values():
            run.verdict = run.verdict or closed()
            run.child.stop()
        await self._quiet_within(self._stop_grace)
        for task in self._tasks:
            task.cancel()
        await self._nursery.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def run(
        self,
        function: Callable[[Call, Any], Result],
        call: Call,
        *,
        threads: int,
        memory_bytes: int,
        time_limit: timedelta | None,
        on_progress: OnProgress,
        keeper: str = "",
    ) -> Outcome[Result]:
        """Runs `function(call, report)` in a child; `report(fraction, message="", **values)` is its progress.

        function: importable by its name. threads: for BLAS, OpenMP and joblib. memory_bytes: what the child may
        hold beyond what it held before. time_limit: counts from the moment a child takes the run.
        keeper: what this run loads (a model) may be kept for runs of the same keeper, in a child that then serves no
        other keeper and is replaced as soon as somebody else needs its slot.
        Cancelling this asks the child to stop, kills it after the grace, and returns once it is gone.

        Raises MemoryLimitExceeded and TimeLimitExceeded (the child was killed), ChildCrashed (it died, or the
        pool is closing), what of mlops.errors the function raised, FitFailed for any other exception of it, and
        Internal for a result that cannot be pickled.
        """
        if function.__module__ == "__main__":
            raise ValueError(f"{function.__qualname__} is of __main__, which a child does not import")
        work = pickle.dumps((function, call), protocol=pickle.HIGHEST_PROTOCOL)
        frame = encode(Task(work=work, threads=threads, memory_bytes=memory_bytes))
        async with self._working(memory_bytes, time_limit, keeper) as run:
            answer = await run.converse(frame, on_progress)
        if isinstance(answer, Raised):
            raise run.with_figures(answer.error)
        try:
            value: Result = pickle.loads(answer.value)  # noqa: S301 - from our own child
        except Exception as exc:
            raise errors.Internal(
                f"The result of {function.__module__}.{function.__qualname__} cannot be read: {exc}"
            ) from exc
        return Outcome(value=value, peak_memory_bytes=run.peak_bytes, seconds=answer.seconds)

    @asynccontextmanager
    async def _working(self, memory_bytes: int, time_limit: timedelta | None, keeper: str) -> AsyncIterator[Run]:
        """A child of the caller's own, watched. It is handed back only where the block ended well."""
        child = await self._take(keeper)
        baseline = memory.own_bytes(child.pid)
        run = self._runs[child] = Run(child=child, baseline_bytes=baseline, limit_bytes=memory_bytes)
        self._quiet.clear()
        sampler = asyncio.create_task(run.watch())
        timer = None
        if time_limit is not None:
            late = errors.TimeLimitExceeded(
                f"The step ran longer than its time limit of {time_limit.total_seconds():g} s; it was stopped",
                hint="Give the job a longer time_limit, more cpus, or a smaller estimator",
                limit_seconds=time_limit.total_seconds(),
            )
            timer = asyncio.get_running_loop().call_later(time_limit.total_seconds(), run.end, late)
        reusable = False
        try:
            yield run
            left = run.sample()
            reusable = run.verdict is None and not self._closing and self._is_clean(child, left)
        finally:
            sampler.cancel()
            if timer is not None:
                timer.cancel()
            if not reusable:
                await _outlast(self._discard(child))
            del self._runs[child]
            if not self._runs:
                self._quiet.set()
            if reusable:
                self._hand_back(child)

    async def _take(self, keeper: str) -> Child:
        """An idle child: one that keeps something for this keeper, else one that keeps nothing."""
        while not self._closing:
            self._idle = [child for child in self._idle if not child.exited.done()]
            mine = [child for child in self._idle if self._keepers.get(child, "") == keeper]
            free = mine or [child for child in self._idle if child not in self._keepers]
            if free:
                self._idle.remove(free[-1])
                if keeper:
                    self._keepers[free[-1]] = keeper
                return free[-1]
            woken = asyncio.get_running_loop().create_future()
            self._waiting.append(woken)
            try:
                self._make_room()
                await woken
            finally:
                self._waiting.remove(woken)
        raise closed()

    def _make_room(self) -> None:
        """Replaces a child that keeps something for others, where more wait than new children are on their way."""
        coming = self._slots - len(self._fresh_bytes)
        if self._idle and coming < len(self._waiting):
            longest_idle = self._idle.pop(0)
            del self._fresh_bytes[longest_idle]
            longest_idle.kill()

    def _hand_back(self, child: Child) -> None:
        self._idle.append(child)
        self._wake()

    def _wake(self) -> None:
        for woken in self._waiting:
            if not woken.done():
                woken.set_result(None)

    def _is_clean(self, child: Child, left: memory.Held) -> bool:
        """Whether a run left nothing that the next one would have to carry, but what it may keep."""
        kept = left.own_bytes - self._fresh_bytes.get(child, 0)
        allowed = self._kept_memory_bytes if child in self._keepers else self._idle_memory_bytes
        return left.members == 0 and kept <= allowed

    async def _discard(self, child: Child) -> None:
        """Ends a child: asks it, then kills it. Returns once it is gone, and its core free."""
        child.stop()
        if not await child.gone(self._stop_grace.total_seconds()):
            child.kill()
            if not await child.gone(KILLED_SECONDS):
                logger.error("child %s was killed, but is still there", child.pid)
        child.hang_up()

    async def _add_child(self) -> None:
        child = await self._nursery.spawn()
        self._fresh_bytes[child] = memory.own_bytes(child.pid)
        child.exited.add_done_callback(lambda _: self._replace(child))
        if not child.exited.done():
            self._hand_back(child)

    def _replace(self, child: Child) -> None:
        """A child is gone: another takes its place."""
        self._fresh_bytes.pop(child, None)
        self._keepers.pop(child, None)
        if child not in self._runs:
            child.hang_up()
        if not self._closing:
            task = asyncio.create_task(self._refill(), name="pool-refill")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _refill(self) -> None:
        delay, longest = RETRY_SECONDS
        while not self._closing:
            try:
                await self._add_child()
                return
            except (OSError, errors.Internal):
                logger.exception("no child could be forked; trying again in %s s", delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, longest)

    async def _quiet_within(self, time: timedelta) -> None:
        """Waits until nothing runs, but no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(time.total_seconds()):
                await self._quiet.wait()


async def _outlast(work: Coroutine[Any, Any, None]) -> None:
    """Awaits work to its end, however often the waiting task is cancelled meanwhile."""
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
