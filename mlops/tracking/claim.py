"""Making one of a thing that MLflow would let anyone make twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from mlops.errors import TrackingUnavailable

# Looks before we give up, and before what nobody confirms is taken for a crashed writer's (about 1.5 s in all).
LOOKS = 14
SETTLED_AFTER = 6
FIRST_WAIT_SECONDS = 0.05


@dataclass(frozen=True)
class Claim:
    """One of the things that were made. A confirmed one is never discarded."""

    id: str
    confirmed: bool


class ClaimLostError(Exception):
    """What was to be confirmed has been discarded meanwhile."""


async def claim_one(
    *,
    find: Callable[[], Coroutine[Any, Any, Sequence[Claim]]],
    create: Callable[[], Coroutine[Any, Any, str]],
    confirm: Callable[[str], Coroutine[Any, Any, None]],
    discard: Callable[[str], Coroutine[Any, Any, None]],
) -> str:
    """The id of the one thing that `find` finds, made where there is none, and completed by `confirm`.

    Whoever makes one looks again, and confirms its own only when it sees no other: had two both confirmed
    theirs, each would have looked before the other had made it. Of several that nobody has confirmed yet, the
    one of the smallest id stays and its maker waits until the others have discarded theirs. What is still not
    confirmed after a while was left by a maker that crashed, and is taken over. `confirm` may run twice for
    one id, and raises ClaimLostError where the thing is gone.

    Raises TrackingUnavailable after 14 looks.
    """
    mine: str | None = None
    for look in range(LOOKS):
        found = await find()
        confirmed = sorted(claim.id for claim in found if claim.confirmed)
        if confirmed:
            if mine is not None and mine not in confirmed:
                await discard(mine)
            return confirmed[0]
        waiting = sorted(claim.id for claim in found)
        if not waiting:
            mine = await create()
            continue
        if waiting == [mine] or look >= SETTLED_AFTER:
            for stray in waiting[1:]:
                await discard(stray)
            try:
                await confirm(waiting[0])
            except ClaimLostError:
                mine = None
            else:
                return waiting[0]
        elif mine is not None and mine in waiting[1:]:
            await discard(mine)
            mine = None
        wait = FIRST_WAIT_SECONDS * 2 ** min(look, 4)
        await asyncio.sleep(random.uniform(0.5, 1.0) * wait)  # noqa: S311 - it spreads, it hides nothing
    raise TrackingUnavailable("several writers made the same thing at the same time, again and again")


async def together(*waiting: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of all, at the same time. The first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in waiting]
    except ExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]
