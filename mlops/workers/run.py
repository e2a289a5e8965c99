"""A child at work: its conversation with the pool, its limits, and how it ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlops import errors
from mlops.workers import memory
from mlops.workers.messages import Progress, Raised, Returned, Task
from mlops.workers.nursery import Child

# fraction (0 to 1, or None), message, numbers of the moment
OnProgress = Callable[[float | None, str, dict[str, float]], None]

# Memory is read 20 times a second, and more often at first, so that the peak of a short fit is seen too.
SAMPLE_SECONDS = 0.05
FIRST_SAMPLE_SECONDS = 0.005
# A killed process that is not gone by now hangs in the kernel.
KILLED_SECONDS = 10.0


@dataclass(kw_only=True)
class Run:
    """One function in one child."""

    child: Child
    # What the child held before: the imports, and what an earlier run left. Not charged.
    baseline_bytes: int
    limit_bytes: int
    peak_bytes: int = 0
    # Why the pool ended the run, where it did.
    verdict: errors.JobError | None = None

    async def converse(self, frame: bytes, on_progress: OnProgress) -> Returned | Raised:
        """Hands the child its task, and listens until it answers.

        Raises the verdict where the pool ended the run, and ChildCrashed where the child died of something else.
        """
        try:
            await self.child.send(frame)
            while True:
                message = await self.child.receive()
                if isinstance(message, Progress):
                    on_progress(message.fraction, message.message, message.values)
                elif not isinstance(message, Task):
                    return message
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            await self.child.gone(KILLED_SECONDS)
            if self.verdict is not None:
                raise self.with_figures(self.verdict) from None
            raise _crashed(self.child) from exc

    async def watch(self) -> None:
        """Samples the memory for as long as the run lasts."""
        pause = FIRST_SAMPLE_SECONDS
        while self.verdict is None:
            await asyncio.sleep(pause)
            self.sample()
            pause = min(pause * 2, SAMPLE_SECONDS)

    def sample(self) -> memory.Held:
        """Measures the child and all that it started; ends the run where that is too much."""
        held = memory.held(self.child.pid, self.child.adopter)
        charged = held.total_bytes - self.baseline_bytes
        self.peak_bytes = max(self.peak_bytes, charged)
        if charged > self.limit_bytes:
            self.end(
                errors.MemoryLimitExceeded(
                    f"The step held {memory.shown(charged)} of memory, more than its limit of"
                    f" {memory.shown(self.limit_bytes)}; it was stopped"
                )
            )
        return held

    def end(self, verdict: errors.JobError) -> None:
        """Kills the child, for this reason."""
        if self.verdict is None:
            self.verdict = verdict
            self.child.kill()

    def with_figures(self, error: errors.MlopsError) -> errors.MlopsError:
        """A memory error carries what was held and what was allowed, whoever noticed first."""
        if not isinstance(error, errors.MemoryLimitExceeded):
            return error
        given = {name: value for name, value in error.details.items() if value}
        details: dict[str, Any] = {"hint": "ask for more memory", "peak_bytes": self.peak_bytes}
        message, limit = error.message, memory.shown(self.limit_bytes)
        if limit not in message:
            # scikit-learn's own words: how much it asked for, but neither what it had nor what it may have.
            message = f"{message} (the step held {memory.shown(self.peak_bytes)} of its limit of {limit})"
        return errors.MemoryLimitExceeded(message, **{**details, "limit_bytes": self.limit_bytes, **given})


def closed() -> errors.ChildCrashed:
    """The pool ends, and the run with it; it may be tried again elsewhere."""
    return errors.ChildCrashed("The worker that ran the step is shutting down")


def _crashed(child: Child) -> errors.ChildCrashed:
    status = child.exited.result() if child.exited.done() else None
    if status is None:
        return errors.ChildCrashed("The process that ran the step hung up")
    if status >= 0:
        return errors.ChildCrashed(f"The process that ran the step ended by itself, with exit code {status}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = "the machine may be out of memory: ask for more memory" if name == "SIGKILL" else ""
    return errors.ChildCrashed(f"The process that ran the step was killed by {name}", hint=hint, signal=name)
