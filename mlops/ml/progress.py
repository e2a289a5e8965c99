"""How far a step is: what it reports, how often, and the numbers that are kept."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from mlops.jobs.report import ProgressPoint

MAX_POINTS = 200
# About five a second: a person cannot read more, and a heartbeat carries one a second.
INTERVAL_SECONDS = 0.2


class Report(Protocol):
    """Takes what a step has to say. May be called from any thread of the process."""

    def __call__(self, fraction: float | None, message: str = "", **values: float) -> None:
        """`fraction`: 0 to 1, or None where nothing is known; `values`: numbers of the moment, {"loss": 0.31}."""


def silent(fraction: float | None, message: str = "", **values: float) -> None:
    """The report that nobody reads."""


def portion(report: Report, start: float, end: float) -> Report:
    """A report for a part of a step: its 0 to 1 becomes `start` to `end` of the whole."""

    def narrowed(fraction: float | None, message: str = "", **values: float) -> None:
        report(None if fraction is None else start + fraction * (end - start), message, **values)

    return narrowed


class Meter:
    """Counts iterations, passes a few of them on to a report, and keeps a bounded series of their numbers."""

    def __init__(
        self,
        report: Report,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._interval = interval_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._due = -math.inf
        self._furthest = 0.0
        self._series: dict[str, list[tuple[int, float]]] = {}

    def say(self, message: str) -> None:
        """Passes on a message at once, without a fraction."""
        with self._lock:
            self._report(None, message)

    def tick(self, done: int, total: int | None, message: str, **values: float) -> None:
        """Iteration `done` (from 1) of `total` (None: unknown) ended, with these numbers.

        The fraction never goes back, though threads may report out of order.
        """
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with self._lock:
            for name, value in finite.items():
                self._series.setdefault(name, []).append((done, value))
            fraction = None
            if total:
                self._furthest = fraction = max(self._furthest, min(done / total, 1.0))
            now = self._clock()
            if now >= self._due or (total is not None and done >= total):
                self._due = now + self._interval
                self._report(fraction, message, **finite)

    def points(self) -> tuple[ProgressPoint, ...]:
        """The numbers so far, evenly thinned out to MAX_POINTS over all names; first and last are kept."""
        with self._lock:
            series = {name: list(points) for name, points in self._series.items()}
        if not series:
            return ()
        share = max(2, MAX_POINTS // len(series))
        return tuple(
            ProgressPoint(name=name, step=step, value=value)
            for name, points in series.items()
            for step, value in _thinned(points, share)
        )[:MAX_POINTS]


def _thinned(points: Sequence[tuple[int, float]], count: int) -> list[tuple[int, float]]:
    if len(points) <= count:
        return list(points)
    stride = (len(points) - 1) / (count - 1)
    return [points[round(index * stride)] for index in range(count)]
