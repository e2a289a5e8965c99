"""Lookups at the same moment: made once, and never shared where they fail or are out of date."""

from __future__ import annotations

import asyncio

import pytest

from mlops.errors import NotFound
from mlops.tenants.lookups import SharedLookups


class Slow:
    """A lookup that ends when the test says so, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = asyncio.Event()
        self.found: str | None = "found"

    async def asked_for(self, times: int) -> None:
        while len(self.asked) < times:
            await asyncio.sleep(0)

    async def __call__(self, key: str) -> str:
        self.asked.append(key)
        found = self.found
        await self.go_on.wait()
        if found is None:
            raise NotFound.of("thing", key)
        return found


async def test_callers_of_the_same_moment_share_one_lookup_a_key() -> None:
    slow = Slow()
    lookups = SharedLookups(slow)
    callers = [asyncio.create_task(lookups.get(key)) for key in ("a", "a", "b", "a")]
    await slow.asked_for(2)
    slow.go_on.set()
    assert await asyncio.gather(*callers) == ["found"] * 4
    assert slow.asked == ["a", "b"]
    await lookups.get("a")
    assert slow.asked == ["a", "b", "a"], "what has ended is not kept"


async def test_a_caller_that_goes_away_takes_nobodys_answer_along() -> None:
    slow = Slow()
    lookups = SharedLookups(slow)
    first, second = (asyncio.create_task(lookups.get("a")) for _ in range(2))
    await slow.asked_for(1)
    first.cancel()
    slow.go_on.set()
    assert await second == "found"
    assert slow.asked == ["a"]


async def test_who_waited_for_a_lookup_that_fails_looks_anew() -> None:
    slow = Slow()
    slow.found = None
    lookups = SharedLookups(slow)
    first, second = (asyncio.create_task(lookups.get("a")) for _ in range(2))
    await slow.asked_for(1)
    slow.found = "found"
    slow.go_on.set()
    with pytest.raises(NotFound):
        await first
    assert await second == "found"


async def test_after_a_change_nobody_is_given_what_was_looked_up_before() -> None:
    slow = Slow()
    slow.found = "old"
    lookups = SharedLookups(slow)
    before = asyncio.create_task(lookups.get("a"))
    await slow.asked_for(1)
    slow.found = "new"
    lookups.forget("a")
    after = asyncio.create_task(lookups.get("a"))
    await slow.asked_for(2)
    slow.go_on.set()
    assert (await before, await after) == ("old", "new")
