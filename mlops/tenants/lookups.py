"""Lookups that callers share: those of one key at the same moment are made once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from mlops.errors import MlopsError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SharedLookups(Generic[Key, Value]):
    """Stands before a lookup whose result is cached for a moment: at the end of that moment all callers miss at once.

    Only what is found is shared. A lookup that fails does so for the caller that began it; those who waited with it
    look for themselves, since what they ask for may have come about meanwhile.
    """

    def __init__(self, look_up: Callable[[Key], Awaitable[Value]]) -> None:
        self._look_up = look_up
        self._under_way: dict[Key, asyncio.Future[Value]] = {}

    async def get(self, key: Key) -> Value:
        """What the lookup of the key finds; it may have begun just before. Raises what it raises."""
        under_way = self._under_way.get(key)
        if under_way is None:
            under_way = self._under_way[key] = asyncio.ensure_future(self._look_up(key))
            under_way.add_done_callback(lambda done: self._ended(key, done))
            # Who began it may go away; the others still get their answer.
            return await asyncio.shield(under_way)
        try:
            return await asyncio.shield(under_way)
        except MlopsError:
            return await self._look_up(key)

    def forget(self, key: Key) -> None:
        """What the key stands for was changed: who asks from now on looks anew."""
        self._under_way.pop(key, None)

    def forget_all(self) -> None:
        """As `forget`, for every key."""
        self._under_way.clear()

    def _ended(self, key: Key, done: asyncio.Future[Value]) -> None:
        if self._under_way.get(key) is done:
            del self._under_way[key]
        if not done.cancelled():
            # Marks the error as seen: those who waited for it may all have gone.
            done.exception()
