"""A serving host: takes orders of all tenants, within its bounds, and keeps a crew of children for each tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from mlops.errors import MemoryLimitExceeded, MlopsError, QuotaExceeded, Unavailable
from mlops.settings import ServingSettings
from mlops.v1 import serving_pb2 as pb
from mlops.workers import memory
from mlops.workers.nursery import Nursery
from mlops.workers.preload import MODELS
from mlops.workers.serving.crew import SHED_RETRY_SECONDS, Crew
from mlops.workers.serving.files import ModelFiles, checked
from mlops.workers.serving.quarantine import Quarantine
from mlops.workers.serving.request import Answer, LaneKey, Model, Request
from mlops.workers.serving.servant import Servant

PROGRAM = "mlops.workers.serving.child"
SAMPLE_SECONDS = 0.5
# What a new child is taken to need before it is measured.
NEW_CHILD_BYTES = 64 * 1024**2


class Host:
    """Call `start` first, and `close` in the end. Used from one event loop."""

    def __init__(self, settings: ServingSettings, files: ModelFiles) -> None:
        self._settings = settings
        self._files = files
        self._nursery = Nursery(MODELS, program=PROGRAM)
        self._loop = asyncio.get_running_loop()
        self._quarantine = Quarantine(clock=self._loop.time)
        self._crews: dict[str, Crew] = {}
        # Accepted and not answered.
        self._held = 0
        self._quiet = asyncio.Event()  # set while nothing is held
        self._quiet.set()
        self._is_closing = False
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Has the template import what children need, so that the first prediction does not wait for it."""
        first = await self._nursery.spawn()
        first.kill()
        await first.gone(SAMPLE_SECONDS)
        first.hang_up()
        self._watching = asyncio.create_task(self._watch())

    async def close(self, grace: timedelta) -> None:
        """Takes nothing more, finishes what it holds within the grace, and ends every child."""
        self._is_closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace.total_seconds()):
                await self._quiet.wait()
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        for crew in self._crews.values():
            await crew.close()
        await self._nursery.close()

    def predict(self, order: pb.PredictOrder, seconds: float, answer: Answer) -> Request:
        """Takes a prediction whose caller waits for so many seconds.

        Raises QuotaExceeded where a queue is full, FailedPrecondition for a model in quarantine, InvalidRequest for a
        model outside of its tenant, Unavailable while the host stops.
        """
        key = LaneKey(_model_of(order.model), tuple(order.methods), order.is_matrix)
        return self._add(key, order.rows, order.row_count, seconds, answer)

    def load(self, order: pb.LoadOrder, seconds: float, answer: Answer) -> Request | None:
        """Makes a child ready to predict with a model. None where one is ready. Raises as `predict`."""
        model = _model_of(order.model)
        crew = self._crews.get(model.tenant)
        if crew is not None and crew.holds(model):
            return None
        return self._add(LaneKey(model, (), False), b"", 0, seconds, answer)

    def status(self) -> pb.StatusReply:
        """How the host is."""
        servants = list(self._servants())
        return pb.StatusReply(
            children=len(servants),
            queued=sum(crew.queued for crew in self._crews.values()),
            held_bytes=sum(servant.held_bytes for servant in servants),
        )

    def _add(self, key: LaneKey, rows: bytes, row_count: int, seconds: float, answer: Answer) -> Request:
        if self._is_closing:
            raise Unavailable("the serving host is shutting down; another may answer")
        if self._held >= self._settings.max_queued:
            raise QuotaExceeded(
                f"{self._held} requests wait on this host, which is as many as may",
                limit="serving_queue",
                retry_after_seconds=SHED_RETRY_SECONDS,
            )

        def answered(outcome: pb.Outcome | MlopsError) -> None:
            self._release()
            answer(outcome)

        now = self._loop.time()
        request = Request(rows=rows, row_count=row_count, came_at=now, deadline=now + seconds, answer=answered)
        self._held += 1
        self._quiet.clear()
        try:
            self._crew(key.model.tenant).add(key, request)
        except MlopsError:
            self._release()
            raise
        return request

    def _release(self) -> None:
        self._held -= 1
        if not self._held:
            self._quiet.set()

    def _crew(self, tenant: str) -> Crew:
        crew = self._crews.get(tenant)
        if crew is None:
            crew = self._crews[tenant] = Crew(
                tenant, hire=self._hire, files=self._files, quarantine=self._quarantine, settings=self._settings
            )
        return crew

    # --- children ------------------------------------------------------------------------------

    def _servants(self) -> Iterator[Servant]:
        for crew in self._crews.values():
            yield from crew.servants

    async def _hire(self, tenant: str) -> Servant:
        """A new child. Raises QuotaExceeded where the children that are busy hold all the memory."""
        if not self._make_room(NEW_CHILD_BYTES):
            raise QuotaExceeded(
                f"the models that are being predicted with hold {memory.shown(self._settings.memory_bytes)}, which is "
                "all the memory that this host has for them",
                limit="serving_memory",
                retry_after_seconds=1.0,
            )
        return Servant(await self._nursery.spawn(), tenant)

    def _make_room(self, wanted_bytes: int) -> bool:
        """Ends children without work, the least recently used first, until this much more fits. Whether it does."""
        staying = [servant for servant in self._servants() if not servant.is_gone]
        held = sum(servant.held_bytes for servant in staying)
        for servant in sorted(staying, key=lambda one: one.used_at):
            if held + wanted_bytes <= self._settings.memory_bytes:
                return True
            if not servant.is_busy:
                servant.dismiss()
                held -= servant.held_bytes
        return held + wanted_bytes <= self._settings.memory_bytes

    async def _watch(self) -> None:
        """Holds the children to their limits, and ends those that have had no work for long."""
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            now, limit = self._loop.time(), self._settings.child_memory_bytes
            for servant in list(self._servants()):
                if servant.sample() > limit:
                    servant.kill(
                        MemoryLimitExceeded(
                            f"the process that predicts held {memory.shown(servant.held_bytes)}, more than its limit of "
                            f"{memory.shown(limit)}; it was stopped"
                        )
                    )
                elif not servant.is_busy and now - servant.used_at > self._settings.child_idle.total_seconds():
                    servant.dismiss()
            self._make_room(0)
            self._crews = {tenant: crew for tenant, crew in self._crews.items() if not crew.is_empty}


def _model_of(order: pb.StagedModel) -> Model:
    return checked(Model(order.tenant, order.model_id, order.has_onnx))
