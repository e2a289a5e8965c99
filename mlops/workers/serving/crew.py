"""The children of one tenant and the requests that wait for them: who predicts what, and when.

A child that is idle takes what waits at once. While all that hold the model are busy, requests gather, and are
predicted together when one comes free; one that has waited for `max_batch_delay` is given another child.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog
from google.rpc.status_pb2 import Status

from mlops.errors import (
    ChildCrashed,
    DeadlineExceeded,
    Internal,
    MemoryLimitExceeded,
    MlopsError,
    QuotaExceeded,
    Unavailable,
)
from mlops.settings import ServingSettings
from mlops.v1 import models_pb2
from mlops.v1 import serving_pb2 as pb
from mlops.wire.status import from_status
from mlops.workers.serving.files import ModelFiles
from mlops.workers.serving.quarantine import Quarantine
from mlops.workers.serving.request import Lane, LaneKey, Model, Request
from mlops.workers.serving.servant import Servant

# Where a full lane asks its callers to come again.
SHED_RETRY_SECONDS = 0.2
# A child that dies younger, without work, is not replaced before there is some.
STEADY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Crew:
    """One tenant's. `hire` gives a new child, or raises what keeps it from doing so."""

    def __init__(
        self,
        tenant: str,
        *,
        hire: Callable[[str], Awaitable[Servant]],
        files: ModelFiles,
        quarantine: Quarantine,
        settings: ServingSettings,
    ) -> None:
        self.servants: list[Servant] = []
        self._tenant = tenant
        self._hire = hire
        self._files = files
        self._quarantine = quarantine
        self._settings = settings
        self._delay = settings.max_batch_delay.total_seconds()
        self._timeout = settings.predict_timeout.total_seconds()
        self._lanes: dict[LaneKey, Lane] = {}
        self._is_hiring = False
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._loop = asyncio.get_running_loop()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held for the tenant: no child, no request."""
        return not (self.servants or self._lanes or self._tasks)

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def add(self, key: LaneKey, request: Request) -> None:
        """Takes a request. Raises QuotaExceeded where its model's queue is full, and FailedPrecondition in quarantine."""
        self._quarantine.check(key.model)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key=key)
        if len(lane.waiting) >= self._settings.max_queued_per_model:
            lane.drop_dead(self._loop.time())
        if len(lane.waiting) >= self._settings.max_queued_per_model:
            raise QuotaExceeded(
                f"{len(lane.waiting)} requests wait for this model, which is as many as may",
                limit="serving_model_queue",
                retry_after_seconds=SHED_RETRY_SECONDS,
            )
        lane.waiting.append(request)
        self._dispatch()

    def holds(self, model: Model) -> bool:
        """Whether a child has the model loaded, as far as is known."""
        return any(model.model_id in servant.models for servant in self.servants)

    async def close(self) -> None:
        """Gives up: what waits and what runs is answered with Unavailable, and no child comes any more."""
        self._is_closed = True
        self._settle_all(Unavailable("the serving host is shutting down"))
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- who takes what ------------------------------------------------------------------------

    def _dispatch(self) -> None:
        now = self._loop.time()
        for lane in sorted(self._lanes.values(), key=_first_came) if len(self._lanes) > 1 else [*self._lanes.values()]:
            while True:
                lane.drop_dead(now)
                if not lane.waiting:
                    del self._lanes[lane.key]
                    break
                servant = self._choose(lane, now)
                if servant is None:
                    break
                servant.is_busy = True
                batch = lane.take(self._settings.max_batch_rows, now)
                self._start(self._work(servant, lane.key, batch))

    def _choose(self, lane: Lane, now: float) -> Servant | None:
        """A child for the lane's next batch; None where it has to wait for one."""
        model_id = lane.key.model.model_id
        idle = [servant for servant in self.servants if not servant.is_busy and not servant.is_gone]
        for servant in idle:
            if model_id in servant.models:
                return servant
        wait_until = lane.waiting[0].came_at + self._delay
        holders = any(model_id in servant.models for servant in self.servants)
        if now < wait_until and (holders or (self.servants and not idle)):
            self._look_again(wait_until)
            return None
        if idle:
            return idle[0]
        self._grow()
        return None

    def _look_again(self, at: float) -> None:
        if self._timer is None or self._timer_at > at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = self._loop.call_at(at, self._timed), at

    def _timed(self) -> None:
        self._timer = None
        self._dispatch()

    def _grow(self) -> None:
        """Has one more child come, unless one is on its way or there are as many as may be."""
        if not (self._is_hiring or self._is_closed) and len(self.servants) < self._settings.max_children:
            self._is_hiring = True
            self._start(self._hire_one())

    async def _hire_one(self) -> None:
        try:
            servant = await self._hire(self._tenant)
        except (MlopsError, OSError) as error:
            _log.warning("no child could be had", tenant=self._tenant, error=str(error))
            if not self.servants:
                away = Unavailable("the serving host cannot start a process now; try again")
                self._settle_all(error if isinstance(error, QuotaExceeded) else away)
            return
        finally:
            self._is_hiring = False
        self.servants.append(servant)
        servant.exited.add_done_callback(lambda _: self._lost(servant))
        self._dispatch()

    def _lost(self, servant: Servant) -> None:
        self.servants.remove(servant)
        servant.hang_up()
        # Another takes the place of one that died, whether or not somebody waits; but not again and again.
        is_wanted = not (self.servants or servant.was_dismissed) and servant.age_seconds > STEADY_SECONDS
        if self._lanes or is_wanted:
            self._grow()

    # --- a batch -------------------------------------------------------------------------------

    async def _work(self, servant: Servant, key: LaneKey, batch: list[Request]) -> None:
        try:
            reply = await self._predict(servant, key, batch)
            if not key.methods:
                for request in batch:
                    request.settle(pb.Outcome())
                return
            for request, outcome in zip(batch, reply.outcomes, strict=True):
                request.settle(outcome)
        except MlopsError as error:
            if isinstance(error, ChildCrashed | MemoryLimitExceeded | DeadlineExceeded):
                self._quarantine.note(key.model)
                _log.warning(
                    "a child was lost",
                    tenant=self._tenant,
                    model=key.model.model_id,
                    error=error.message,
                    pid=servant.pid,
                )
            _settle(batch, error)
        except asyncio.CancelledError:
            _settle(batch, Unavailable("the serving host is shutting down"))
            raise
        except Exception as error:  # noqa: BLE001  # the callers are told, and it is logged
            _log.exception("a batch failed", tenant=self._tenant, model=key.model.model_id)
            _settle(batch, Internal(f"the serving host failed: {type(error).__name__}"))
        finally:
            servant.is_busy = False
            self._dispatch()

    async def _predict(self, servant: Servant, key: LaneKey, batch: list[Request]) -> pb.BatchReply:
        order = pb.Batch(
            methods=[models_pb2.PredictMethod.ValueType(method) for method in key.methods],
            requests=[request.rows for request in batch] if key.methods else (),
            cache_bytes=self._settings.model_cache_bytes,
        )
        model = key.model
        if model.model_id in servant.models:
            order.directory = servant.models[model.model_id]
            reply = await servant.run(order, within_seconds=self._timeout)
            if not reply.error:
                return reply
            # The child had to drop the model, and its files are gone from the cache since.
            del servant.models[model.model_id]
        async with self._files.held(model) as directory:
            order.directory = str(directory)
            reply = await servant.run(order, within_seconds=self._timeout)
        if reply.error:
            raise from_status(Status.FromString(reply.error))
        servant.models[model.model_id] = order.directory
        return reply

    def _settle_all(self, error: MlopsError) -> None:
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            _settle(lane.waiting, error)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _first_came(lane: Lane) -> float:
    return lane.waiting[0].came_at if lane.waiting else 0.0


def _settle(requests: Iterable[Request], error: MlopsError) -> None:
    for request in requests:
        request.settle(error)
