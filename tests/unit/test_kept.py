"""Values that are looked up again while they are in use."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from mlops.errors import NotFound, Unavailable
from mlops.gateway.serving.kept import Kept


class Source:
    """A value that changes, with a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.value = "one"
        self.error: Exception | None = None
        self.looked_up = 0
        self.slow = asyncio.Event()
        self.slow.set()
        self.kept: Kept[str, str] = Kept(
            self.look_up,
            fresh=timedelta(seconds=1),
            stale=timedelta(seconds=2),
            lasting=timedelta(seconds=60),
            patience=timedelta(milliseconds=50),
            clock=lambda: self.now,
        )

    async def look_up(self, key: str, last: str | None) -> str:
        self.looked_up += 1
        await self.slow.wait()
        if self.error is not None:
            raise self.error
        return f"{key} {self.value}"

    async def get(self) -> str:
        found = await self.kept.get("a")
        # What was begun in the background ends.
        for _ in range(5):
            await asyncio.sleep(0)
        return found


async def test_a_fresh_value_is_not_looked_up_again() -> None:
    source = Source()
    assert [await source.get() for _ in range(3)] == ["a one"] * 3
    assert source.looked_up == 1


async def test_many_who_ask_at_once_share_one_look_up() -> None:
    source = Source()
    assert await asyncio.gather(*(source.kept.get("a") for _ in range(50))) == ["a one"] * 50
    assert source.looked_up == 1


async def test_an_older_value_is_given_at_once_and_the_new_one_next_time() -> None:
    source = Source()
    await source.get()
    source.value, source.now = "two", 1.5
    assert [await source.get(), await source.get()] == ["a one", "a two"]


async def test_a_value_that_is_too_old_is_waited_for() -> None:
    source = Source()
    await source.get()
    source.value, source.now = "two", 2.5
    assert await source.get() == "a two"


async def test_nobody_waits_long_for_a_look_up_that_hangs() -> None:
    source = Source()
    await source.get()
    source.slow.clear()
    source.now = 2.5
    async with asyncio.timeout(1.0):
        assert await source.get() == "a one"
    source.slow.set()


async def test_the_last_value_lasts_while_the_source_is_away_but_not_for_ever() -> None:
    source = Source()
    await source.get()
    source.error = Unavailable("away")
    for source.now in (2.5, 10.0, 50.0):
        assert await source.get() == "a one"
    source.now = 70.0
    await source.get()
    with pytest.raises(Unavailable):
        await source.get()


async def test_what_is_gone_is_gone() -> None:
    source = Source()
    await source.get()
    source.error = NotFound.of("alias", "a")
    source.now = 2.5
    with pytest.raises(NotFound):
        await source.get()


async def test_a_first_look_up_that_fails_is_tried_again_by_the_next() -> None:
    source = Source()
    source.error = Unavailable("away")
    with pytest.raises(Unavailable):
        await source.get()
    source.error = None
    assert await source.get() == "a one"


async def test_a_forgotten_value_is_looked_up_by_the_next() -> None:
    source = Source()
    await source.get()
    source.value = "two"
    source.kept.forget("a")
    assert await source.get() == "a two"
