"""A private event loop in a background thread, for callers that have none, or another one (notebooks)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from mlops import errors

ResultT = TypeVar("ResultT")

# How long closing waits for what is still running.
CLOSE_SECONDS = 5.0

# Tasks that nobody waits for; the event loop itself holds them only weakly.
_discarded: set[asyncio.Task[None]] = set()


class LoopThread:
    """Runs coroutines for any thread. Started by the first one, ended by `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def run(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """The coroutine's result. A KeyboardInterrupt in the waiting thread cancels the coroutine."""
        try:
            loop = self._started()
        except errors.FailedPrecondition:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # changes nothing where it has ended
            raise

    def iterate(self, items: AsyncIterator[ResultT]) -> Iterator[ResultT]:
        """The items of an asynchronous iterator, fetched as they are asked for; left early, it is closed."""
        iteration = _Iteration(items)
        try:
            while True:
                try:
                    yield self.run(iteration.next())
                except StopAsyncIteration:
                    return
        finally:
            self._discard(iteration)

    def close(self) -> None:
        """Cancels what still runs and stops the loop. Closing twice changes nothing."""
        if not self._closed and self._loop is not None:
            self.run(_wind_down())
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            self._closed = True
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_SECONDS)
        if not thread.is_alive():
            loop.close()

    def _discard(self, iteration: _Iteration[Any]) -> None:
        if self._closed or self._loop is None:
            return
        if threading.current_thread() is self._thread:
            # The garbage collector came by in the loop's own thread, which must not wait for itself.
            _discarded.add(task := self._loop.create_task(iteration.close()))
            task.add_done_callback(_discarded.discard)
        else:
            self.run(iteration.close())

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise errors.FailedPrecondition("the client is closed; create a new one")
            if threading.current_thread() is self._thread:
                raise errors.FailedPrecondition("a callback of the client cannot call the client")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="mlops-client", daemon=True)
                self._thread.start()
            return self._loop


class _Iteration(Generic[ResultT]):
    """One pass over an asynchronous iterator, which can be closed at any moment."""

    def __init__(self, items: AsyncIterator[ResultT]) -> None:
        self._items = items
        self._task: asyncio.Task[Any] | None = None

    async def next(self) -> ResultT:
        """The next item."""
        self._task = asyncio.current_task()
        try:
            return await anext(self._items)
        finally:
            self._task = None

    async def close(self) -> None:
        """Ends the iterator. An interrupted thread may have left a `next` behind, without which none can be closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()


async def _wind_down() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
