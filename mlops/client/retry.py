"""When a call is made again: the service was away, and the caller still has time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    attempts: how often one call is made at most. patience: for how long a watch that lost its stream tries to
    come back; any event that arrives starts it anew.
    """

    attempts: int = 5
    first_delay: timedelta = timedelta(milliseconds=100)
    longest_delay: timedelta = timedelta(seconds=5)
    patience: timedelta = timedelta(minutes=5)

    def delay_seconds(self, attempt: int, *, hint: float | None = None) -> float:
        """How long to wait after the `attempt`-th failure (from 1). A server's hint is a lower bound."""
        ceiling = min(
            self.first_delay.total_seconds() * 2.0 ** min(attempt - 1, 32), self.longest_delay.total_seconds()
        )
        # Half is fixed, so that a burst of failures is never retried at once; the other half spreads the callers.
        jittered = ceiling * (0.5 + random.random() / 2)  # noqa: S311 - jitter, not a secret
        return max(jittered, hint or 0.0)
