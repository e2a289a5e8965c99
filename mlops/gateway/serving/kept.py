"""Values that are looked up again while they are in use, so that nobody but the first waits for the look-up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from cachetools import LRUCache

from mlops.errors import MlopsError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRIES = 10_000


@dataclass(kw_only=True)
class _Entry(Generic[V]):
    value: V
    # When the look-up of the value began.
    at: float
    # The last look-up failed for now.
    is_failing: bool = False
    refreshing: asyncio.Task[None] | None = None


class Kept(Generic[K, V]):
    """Values by key.

    look_up: finds a value; it is given the last one, or None the first time.
    fresh: a value as old as this is given, and looked up again in the background.
    stale: for one as old as this, readers wait for the look-up, but not for longer than `patience`.
    lasting: how long the last value is given while look-ups fail with a retryable error.
    """

    def __init__(
        self,
        look_up: Callable[[K, V | None], Awaitable[V]],
        *,
        fresh: timedelta,
        stale: timedelta,
        lasting: timedelta = timedelta(minutes=10),
        patience: timedelta = timedelta(seconds=1),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._fresh = fresh.total_seconds()
        self._stale = stale.total_seconds()
        self._lasting = lasting.total_seconds()
        self._patience = patience.total_seconds()
        self._clock = clock
        self._entries: LRUCache[K, _Entry[V]] = LRUCache(ENTRIES)
        self._first: dict[K, asyncio.Task[_Entry[V]]] = {}

    async def get(self, key: K) -> V:
        """The value. Raises what the look-up raised, where there is no value that may be given instead."""
        entry = self._entries.get(key)
        if entry is None:
            return (await self._first_entry(key)).value
        age = self._clock() - entry.at
        if age < self._fresh:
            return entry.value
        if entry.refreshing is None:
            entry.refreshing = asyncio.create_task(self._refresh(key, entry))
        if age >= self._stale and not entry.is_failing:
            await asyncio.wait({entry.refreshing}, timeout=self._patience)
            if self._entries.get(key) is not entry:
                # What it named is gone.
                return (await self._first_entry(key)).value
        return entry.value

    def forget(self, key: K) -> None:
        """Has the next reader wait for a look-up."""
        self._entries.pop(key, None)

    async def _first_entry(self, key: K) -> _Entry[V]:
        """One look-up, however many ask; each of them may go away."""
        task = self._first.get(key)
        if task is None:
            task = self._first[key] = asyncio.create_task(self._find(key))
            task.add_done_callback(lambda done: self._found(key, done))
        return await asyncio.shield(task)

    async def _find(self, key: K) -> _Entry[V]:
        begun = self._clock()
        return _Entry(value=await self._look_up(key, None), at=begun)

    def _found(self, key: K, done: asyncio.Task[_Entry[V]]) -> None:
        del self._first[key]
        # Asking for the exception marks it as seen: those who waited may all have gone.
        if not done.cancelled() and done.exception() is None:
            self._entries[key] = done.result()

    async def _refresh(self, key: K, entry: _Entry[V]) -> None:
        begun = self._clock()
        try:
            entry.value = await self._look_up(key, entry.value)
            entry.at, entry.is_failing = begun, False
        except MlopsError as error:
            entry.is_failing = error.retryable
            if (not error.retryable or begun - entry.at > self._lasting) and self._entries.get(key) is entry:
                del self._entries[key]
        finally:
            entry.refreshing = None
