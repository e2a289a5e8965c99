"""One child at work for one tenant: it is given a batch, and answers or is killed."""

from __future__ import annotations

import asyncio

from mlops import errors
from mlops.v1 import serving_pb2 as pb
from mlops.workers import memory
from mlops.workers.messages import LENGTH
from mlops.workers.nursery import Child

# A killed process that is not gone by now hangs in the kernel.
KILLED_SECONDS = 5.0


class Servant:
    """A child and what is known of it. Belongs to one tenant for its whole life.

    models: those that it was given and may hold loaded, and where their files were. used_at: the loop's time when it last began or ended a batch.
    """

    def __init__(self, child: Child, tenant: str) -> None:
        self.tenant = tenant
        self.models: dict[str, str] = {}
        self.is_busy = False
        self.was_dismissed = False
        self.held_bytes = memory.own_bytes(child.pid)
        self.used_at = asyncio.get_running_loop().time()
        self._child = child
        self._born_at = self.used_at
        self._verdict: errors.MlopsError | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended, or is about to."""
        return self._verdict is not None or self._child.exited.done()

    @property
    def age_seconds(self) -> float:
        """How long it has been there."""
        return asyncio.get_running_loop().time() - self._born_at

    @property
    def exited(self) -> asyncio.Future[int]:
        """Done once the process is gone."""
        return self._child.exited

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    async def run(self, batch: pb.Batch, *, within_seconds: float) -> pb.BatchReply:
        """Hands the child a batch and waits for its answer.

        Raises ChildCrashed where the child died, and what it was killed for: DeadlineExceeded after `within_seconds`,
        MemoryLimitExceeded.
        """
        loop = asyncio.get_running_loop()
        late = errors.DeadlineExceeded(f"the prediction took longer than {within_seconds:g} s; it was stopped")
        timer = loop.call_later(within_seconds, self.kill, late)
        self.used_at = loop.time()
        try:
            body = batch.SerializeToString()
            await self._child.send(LENGTH.pack(len(body)) + body)
            return pb.BatchReply.FromString(await self._child.receive_frame())
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await self._child.gone(KILLED_SECONDS)
            if self._verdict is not None:
                raise self._verdict from None
            status = self._child.exited.result() if self._child.exited.done() else "unknown"
            raise errors.ChildCrashed(
                f"the process that predicted died (status {status}); the same request may work"
            ) from error
        finally:
            timer.cancel()
            self.used_at = loop.time()

    def sample(self) -> int:
        """Measures what the child holds of its own, in bytes."""
        self.held_bytes = memory.own_bytes(self._child.pid)
        return self.held_bytes

    def kill(self, verdict: errors.MlopsError) -> None:
        """Kills the child, for this reason."""
        if self._verdict is None:
            self._verdict = verdict
            self._child.kill()

    def dismiss(self) -> None:
        """Ends a child that has nothing to do."""
        self.was_dismissed = True
        self.kill(errors.Unavailable("the process was ended to make room"))

    def hang_up(self) -> None:
        """Closes the connection to a child that is gone."""
        self._child.hang_up()
