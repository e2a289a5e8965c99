"""Shadow traffic: requests that the champion answered are scored by the challenger too, and the answers compared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import structlog

from mlops.errors import MlopsError
from mlops.gateway.serving.frames import doubles, integers
from mlops.jobs.serving import ShadowFigures
from mlops.tenants.traffic import TrafficStore
from mlops.v1 import models_pb2
from mlops.v1 import serving_pb2 as pb

# Under way at a time; a request that finds as many is not scored twice.
MAX_RUNNING = 8
# Larger requests would hold up the answers of others while they are compared.
MAX_ROWS = 1000
FLUSH_SECONDS = 1.0
# What counts as a difference, of a number's size.
TOLERANCE = 1e-6

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RuleKey:
    """The rule that a comparison was made under."""

    tenant: str
    model: str
    since: datetime


@dataclass(kw_only=True)
class Seen:
    """What was seen since the last flush."""

    compared_rows: int = 0
    differing_rows: int = 0
    total_difference: float = 0.0
    max_difference: float = 0.0
    skipped_requests: int = 0

    def figures(self) -> ShadowFigures:
        """As they are stored."""
        mean = self.total_difference / self.compared_rows if self.compared_rows else 0.0
        return ShadowFigures(
            compared_rows=self.compared_rows,
            differing_rows=self.differing_rows,
            mean_difference=mean,
            max_difference=self.max_difference,
            skipped_requests=self.skipped_requests,
        )


class Shadow:
    """`async with Shadow(store) as shadow:` adds what it sees into the database every second."""

    def __init__(self, store: TrafficStore) -> None:
        self._store = store
        self._running: set[asyncio.Task[None]] = set()
        self._seen: dict[RuleKey, Seen] = {}
        self._flushing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._flushing = asyncio.create_task(self._keep_flushing())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (*self._running, self._flushing):
            if task is not None:
                task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._flushing is not None:
            with suppress(asyncio.CancelledError):
                await self._flushing
        await self._flush()

    def score(self, rule: RuleKey, answer: pb.Outputs, rows: int, predict: Callable[[], Awaitable[pb.Outputs]]) -> None:
        """Compares an answer with what `predict` gives, in the background; under load it is skipped, and counted."""
        if len(self._running) >= MAX_RUNNING or rows > MAX_ROWS:
            self._of(rule).skipped_requests += 1
            return
        task = asyncio.create_task(self._score(rule, answer, predict))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _score(self, rule: RuleKey, answer: pb.Outputs, predict: Callable[[], Awaitable[pb.Outputs]]) -> None:
        try:
            other = await predict()
        except MlopsError as error:
            _log.info("shadow_failed", tenant=rule.tenant, model=rule.model, error=error.message)
            self._of(rule).skipped_requests += 1
            return
        compare(answer, other, self._of(rule))

    def _of(self, rule: RuleKey) -> Seen:
        return self._seen.setdefault(rule, Seen())

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        seen, self._seen = self._seen, {}
        for rule, figures in seen.items():
            try:
                await self._store.add(rule.tenant, rule.model, rule.since, figures.figures())
            except MlopsError as error:
                _log.warning("shadow_figures_lost", tenant=rule.tenant, model=rule.model, error=error.message)


def compare(one: pb.Outputs, other: pb.Outputs, seen: Seen) -> None:
    """Adds how two answers to the same rows differ: by label, and by number (probabilities where there are any)."""
    first = {int(output.method): output for output in one.outputs}
    second = {int(output.method): output for output in other.outputs}
    different: set[int] = set()
    rows = 0
    for method, output in first.items():
        if method not in second:
            continue
        said, said_too = _labels(output), _labels(second[method])
        if said is not None and said_too is not None:
            rows = max(rows, len(said))
            different.update(row for row, pair in enumerate(zip(said, said_too, strict=False)) if pair[0] != pair[1])
    measured = _measured(first, second)
    if measured is not None:
        a, b = (doubles(output.numbers) for output in measured)
        width = max(measured[0].columns, 1)
        if len(a) == len(b):
            rows = max(rows, len(a) // width)
            for row in range(len(a) // width):
                pairs = list(zip(a[row * width : (row + 1) * width], b[row * width : (row + 1) * width], strict=True))
                difference = max(abs(x - y) for x, y in pairs)
                seen.total_difference += difference
                seen.max_difference = max(seen.max_difference, difference)
                if any(abs(x - y) > TOLERANCE * max(abs(x), abs(y)) for x, y in pairs):
                    different.add(row)
    seen.compared_rows += rows
    seen.differing_rows += len(different)


def _labels(output: pb.Output) -> list[object] | None:
    """The labels of a prediction; None for numbers, which are measured and not compared."""
    content = output.WhichOneof("content")
    if content == "integers":
        return list(integers(output.integers))
    if content == "booleans":
        return list(output.booleans)
    return list(output.texts.values) if content == "texts" else None


def _measured(first: dict[int, pb.Output], second: dict[int, pb.Output]) -> tuple[pb.Output, pb.Output] | None:
    for method in (
        models_pb2.PREDICT_METHOD_PREDICT_PROBA,
        models_pb2.PREDICT_METHOD_DECISION_FUNCTION,
        models_pb2.PREDICT_METHOD_PREDICT,
    ):
        if method in first and method in second and first[method].numbers and second[method].numbers:
            return first[method], second[method]
    return None
