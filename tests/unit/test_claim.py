from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from mlops.errors import NotFound, TrackingUnavailable
from mlops.tracking import claim
from mlops.tracking.claim import Claim, ClaimLostError, claim_one, together


class Shelf:
    """Where anyone may put as many as they like. Every call takes a random while before and after it works."""

    def __init__(self, seed: int = 0) -> None:
        self.things: dict[str, bool] = {}
        self.made = 0
        self.random = random.Random(seed)

    async def pause(self) -> None:
        for _ in range(self.random.randrange(6)):
            await asyncio.sleep(0)

    async def find(self) -> Sequence[Claim]:
        await self.pause()
        found = [Claim(id, confirmed) for id, confirmed in self.things.items()]
        await self.pause()
        return found

    async def create(self) -> str:
        await self.pause()
        self.made += 1
        id = f"{self.random.randrange(10**9):09d}"
        self.things[id] = False
        await self.pause()
        return id

    async def confirm(self, id: str) -> None:
        await self.pause()
        if id not in self.things:
            raise ClaimLostError
        self.things[id] = True
        await self.pause()

    async def discard(self, id: str) -> None:
        await self.pause()
        assert not self.things.pop(id, False), "a confirmed one was discarded"
        await self.pause()

    async def claim(self) -> str:
        return await claim_one(find=self.find, create=self.create, confirm=self.confirm, discard=self.discard)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "FIRST_WAIT_SECONDS", 0.0005)


@pytest.mark.parametrize("seed", range(60))
async def test_writers_that_race_agree_on_one(seed: int) -> None:
    shelf = Shelf(seed)
    claimed = await asyncio.gather(*(shelf.claim() for _ in range(2 + seed % 4)))
    assert len(set(claimed)) == 1
    assert shelf.things == {claimed[0]: True}


async def test_what_is_confirmed_is_taken_as_it_is() -> None:
    shelf = Shelf()
    first = await shelf.claim()
    assert await shelf.claim() == first
    assert shelf.made == 1


async def test_what_crashed_writers_left_is_taken_over_and_tidied_up() -> None:
    shelf = Shelf()
    shelf.things = {"2": False, "1": False}
    assert await shelf.claim() == "1"
    assert shelf.things == {"1": True}


async def test_a_claim_that_never_settles_ends() -> None:
    shelf = Shelf()

    async def lose(id: str) -> None:
        raise ClaimLostError

    with pytest.raises(TrackingUnavailable):
        await claim_one(find=shelf.find, create=shelf.create, confirm=lose, discard=shelf.discard)


async def test_the_first_error_of_several_calls_is_raised_as_it_is_and_ends_the_others() -> None:
    ended = asyncio.Event()

    async def fail() -> None:
        raise NotFound.of("run", "r")

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(NotFound):
        await together(wait(), fail())
    assert ended.is_set()
