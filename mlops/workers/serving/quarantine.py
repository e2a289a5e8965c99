"""Models that crash the processes that predict with them: after some crashes they are refused for a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from mlops.errors import FailedPrecondition

# Fewer may be the machine's fault: it ran out of memory, or somebody killed a process.
CRASHES = 5
WITHIN_SECONDS = 60.0
REFUSED_SECONDS = 30.0


@dataclass(kw_only=True)
class Quarantine:
    """Remembers crashes by model. clock: monotonic, in seconds."""

    clock: Callable[[], float]
    _crashes: dict[Hashable, deque[float]] = field(default_factory=dict)
    _until: dict[Hashable, float] = field(default_factory=dict)

    def note(self, model: Hashable) -> None:
        """A process died of this model, as far as one can tell."""
        now = self.clock()
        crashes = self._crashes.setdefault(model, deque(maxlen=CRASHES))
        crashes.append(now)
        if len(crashes) == CRASHES and now - crashes[0] <= WITHIN_SECONDS:
            self._until[model] = now + REFUSED_SECONDS
            del self._crashes[model]

    def check(self, model: Hashable) -> None:
        """Raises FailedPrecondition for a model that is refused."""
        if not self._until:
            return
        until = self._until.get(model)
        if until is None:
            return
        left = until - self.clock()
        if left <= 0:
            del self._until[model]
            return
        raise FailedPrecondition(
            f"this model crashed the process that predicts with it {CRASHES} times within a minute; "
            f"it is tried again in {left:.0f} s"
        )
