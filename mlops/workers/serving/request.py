"""A prediction that waits in a host, and the lane it waits in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from mlops.errors import DeadlineExceeded, MlopsError
from mlops.v1 import serving_pb2 as pb

# Told of what came of a request: serialised Outputs, a serialised google.rpc.Status, or an error.
Answer = Callable[[pb.Outcome | MlopsError], None]


class Model(NamedTuple):
    """A staged model of a tenant."""

    tenant: str
    model_id: str
    has_onnx: bool


class LaneKey(NamedTuple):
    """What requests have in common that may be predicted together."""

    model: Model
    methods: tuple[int, ...]
    is_matrix: bool


@dataclass(kw_only=True, eq=False)
class Request:
    """One caller's rows, or none to have the model loaded. `deadline` and `came_at` are the loop's time."""

    rows: bytes
    row_count: int
    came_at: float
    deadline: float
    answer: Answer
    is_settled: bool = False

    def settle(self, outcome: pb.Outcome | MlopsError) -> None:
        """Answers, once: what comes later finds nobody."""
        if not self.is_settled:
            self.is_settled = True
            self.answer(outcome)

    def is_dead(self, now: float) -> bool:
        """Whether nobody waits for it any more; one that is late is told so."""
        if now >= self.deadline:
            self.settle(DeadlineExceeded("the caller's deadline passed before the prediction was begun"))
        return self.is_settled


@dataclass(kw_only=True)
class Lane:
    """Requests that may be predicted together, in the order in which they came."""

    key: LaneKey
    waiting: deque[Request] = field(default_factory=deque)

    def take(self, max_rows: int, now: float) -> list[Request]:
        """The next batch: at most so many rows, but at least one request that somebody waits for, if there is one."""
        batch: list[Request] = []
        rows = 0
        while self.waiting:
            request = self.waiting[0]
            if request.is_dead(now):
                self.waiting.popleft()
                continue
            if batch and rows + request.row_count > max_rows:
                break
            rows += request.row_count
            batch.append(self.waiting.popleft())
        return batch

    def drop_dead(self, now: float) -> None:
        """Forgets those that nobody waits for."""
        if any(request.is_dead(now) for request in self.waiting):
            self.waiting = deque(request for request in self.waiting if not request.is_settled)
