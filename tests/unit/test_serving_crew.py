"""How a tenant's requests are shared out between its children: batches, bounds, deadlines, crashes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from mlops.errors import ChildCrashed, Code, DeadlineExceeded, FailedPrecondition, MlopsError, NotFound, QuotaExceeded
from mlops.settings import ServingSettings
from mlops.v1 import serving_pb2 as pb
from mlops.workers.nursery import Child
from mlops.workers.serving.crew import Crew
from mlops.workers.serving.files import ModelFiles
from mlops.workers.serving.quarantine import CRASHES, Quarantine
from mlops.workers.serving.request import LaneKey, Model, Request
from mlops.workers.serving.servant import Servant
from tests.fixtures.serving import PretendedChild, PretendedFiles

DEADLINE = 5.0
CHURN = LaneKey(Model("acme", "m-churn", False), (1,), True)
FRAUD = LaneKey(Model("acme", "m-fraud", False), (1,), True)


class Team:
    """A crew of pretended children; `ask` gives the answer of a request."""

    def __init__(self, **changes: object) -> None:
        self.children: list[PretendedChild] = []
        given: dict[str, object] = {
            "storage_url": "file:///nowhere",
            "scratch_dir": Path("/nowhere"),
            "max_children": 1,
            "max_batch_delay": timedelta(milliseconds=20),
            **changes,
        }
        self.quarantine = Quarantine(clock=asyncio.get_running_loop().time)
        self.crew = Crew(
            "acme",
            hire=self._hire,
            files=cast("ModelFiles", PretendedFiles()),
            quarantine=self.quarantine,
            settings=ServingSettings.model_validate(given),
        )

    async def _hire(self, tenant: str) -> Servant:
        child = PretendedChild()
        self.children.append(child)
        return Servant(cast("Child", child), tenant)

    def ask(self, rows: bytes, key: LaneKey = CHURN, *, seconds: float = DEADLINE, count: int = 1) -> Awaitable[bytes]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()

        def answer(outcome: pb.Outcome | MlopsError) -> None:
            if isinstance(outcome, MlopsError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome.outputs)

        now = loop.time()
        request = Request(rows=rows, row_count=count, came_at=now, deadline=now + seconds, answer=answer)
        self.crew.add(key, request)
        return asyncio.wait_for(future, DEADLINE)

    async def warm(self, key: LaneKey = CHURN) -> PretendedChild:
        """The first child, which holds the model."""
        await self.ask(b"warm", key)
        self.children[0].batches.clear()
        return self.children[0]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.002)


async def test_requests_that_wait_for_a_busy_child_are_predicted_together() -> None:
    team = Team()
    child = await team.warm()
    child.may_answer.clear()
    asked = [asyncio.ensure_future(team.ask(b"%d" % index)) for index in range(4)]
    await until(lambda: child.batches)
    child.may_answer.set()
    assert await asyncio.gather(*asked) == [b"0", b"1", b"2", b"3"]
    assert [list(batch.requests) for batch in child.batches] == [[b"0"], [b"1", b"2", b"3"]]


async def test_a_batch_has_no_more_rows_than_it_may_but_for_a_request_that_has_more_by_itself() -> None:
    team = Team(max_batch_rows=10)
    child = await team.warm()
    child.may_answer.clear()
    sizes = [1, 6, 4, 1, 50]
    asked = [asyncio.ensure_future(team.ask(b"%d" % size, count=size)) for size in sizes]
    await until(lambda: child.batches)
    child.may_answer.set()
    await asyncio.gather(*asked)
    assert [list(batch.requests) for batch in child.batches] == [[b"1"], [b"6", b"4"], [b"1"], [b"50"]]


async def test_requests_of_two_models_or_two_methods_are_not_predicted_together() -> None:
    team = Team()
    child = await team.warm()
    child.may_answer.clear()
    proba = CHURN._replace(methods=(2,))
    asked = [asyncio.ensure_future(team.ask(b"x", key)) for key in (CHURN, FRAUD, proba, CHURN)]
    await until(lambda: child.batches)
    child.may_answer.set()
    await asyncio.gather(*asked)
    assert [(batch.directory[-5:], list(batch.methods), len(batch.requests)) for batch in child.batches] == [
        ("churn", [1], 1),
        ("fraud", [1], 1),
        ("churn", [2], 1),
        ("churn", [1], 1),
    ]


async def test_a_request_that_waited_long_enough_is_given_another_child() -> None:
    team = Team(max_children=2)
    child = await team.warm()
    child.may_answer.clear()
    stuck = asyncio.ensure_future(team.ask(b"stuck"))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert await team.ask(b"next") == b"next"
    assert loop.time() - begun >= 0.02
    assert len(team.children) == 2
    child.may_answer.set()
    assert await stuck == b"stuck"


async def test_a_child_that_is_free_again_within_the_delay_needs_no_second_one() -> None:
    team = Team(max_children=2, max_batch_delay=timedelta(seconds=2))
    child = await team.warm()
    child.may_answer.clear()
    asked = [asyncio.ensure_future(team.ask(b"x")) for _ in range(3)]
    await until(lambda: child.batches)
    child.may_answer.set()
    await asyncio.gather(*asked)
    assert len(team.children) == 1


async def test_a_full_queue_sheds_at_once_and_names_the_limit() -> None:
    team = Team(max_queued_per_model=2)
    child = await team.warm()
    child.may_answer.clear()
    asked = [asyncio.ensure_future(team.ask(b"x"))]
    await until(lambda: child.batches)
    asked += [asyncio.ensure_future(team.ask(b"x")) for _ in range(2)]
    await until(lambda: team.crew.queued == 2)
    with pytest.raises(QuotaExceeded) as caught:
        team.ask(b"x")
    assert caught.value.limit == "serving_model_queue"
    assert caught.value.retry_after_seconds
    asked.append(asyncio.ensure_future(team.ask(b"other model", FRAUD)))
    child.may_answer.set()
    await asyncio.gather(*asked)


async def test_what_is_late_is_told_so_and_never_predicted() -> None:
    team = Team()
    child = await team.warm()
    child.may_answer.clear()
    first = asyncio.ensure_future(team.ask(b"first"))
    late = asyncio.ensure_future(team.ask(b"late", seconds=0.05))
    last = asyncio.ensure_future(team.ask(b"last"))
    await asyncio.sleep(0.1)
    child.may_answer.set()
    with pytest.raises(DeadlineExceeded):
        await late
    assert [await first, await last] == [b"first", b"last"]
    assert [list(batch.requests) for batch in child.batches] == [[b"first"], [b"last"]]


async def test_a_crash_costs_the_batch_that_the_child_held_and_the_others_go_on_in_another() -> None:
    team = Team()
    child = await team.warm()
    child.may_answer.clear()
    held = asyncio.ensure_future(team.ask(b"held"))
    await until(lambda: child.batches)
    waiting = asyncio.ensure_future(team.ask(b"waiting"))
    child.exited.set_result(-signal.SIGSEGV)
    with pytest.raises(ChildCrashed) as caught:
        await held
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.retryable
    assert await waiting == b"waiting"
    assert len(team.children) == 2


async def test_a_child_that_dies_while_it_is_idle_is_replaced_at_once() -> None:
    team = Team()
    child = await team.warm()
    [servant] = team.crew.servants
    servant._born_at -= 10.0
    child.exited.set_result(-signal.SIGKILL)
    await until(lambda: len(team.children) == 2)


async def test_children_that_die_at_once_are_not_forked_again_and_again() -> None:
    team = Team()
    child = await team.warm()
    child.exited.set_result(-signal.SIGKILL)
    await asyncio.sleep(0.05)
    assert len(team.children) == 1
    assert await team.ask(b"x") == b"x"


async def test_those_that_nobody_waits_for_take_no_place_in_the_queue() -> None:
    team = Team(max_queued_per_model=2)
    child = await team.warm()
    child.may_answer.clear()
    first = asyncio.ensure_future(team.ask(b"first"))
    await until(lambda: child.batches)
    late = [asyncio.ensure_future(team.ask(b"late", seconds=0.01)) for _ in range(2)]
    await asyncio.sleep(0.05)
    last = asyncio.ensure_future(team.ask(b"last"))
    await asyncio.sleep(0)
    child.may_answer.set()
    assert [await first, await last] == [b"first", b"last"]
    for request in late:
        with pytest.raises(DeadlineExceeded):
            await request


async def test_a_prediction_that_hangs_is_stopped_and_its_child_with_it() -> None:
    team = Team(predict_timeout=timedelta(milliseconds=50))
    child = await team.warm()
    child.may_answer.clear()
    with pytest.raises(DeadlineExceeded, match=r"longer than 0\.05 s"):
        await team.ask(b"hangs")
    assert child.exited.done()
    assert await team.ask(b"next") == b"next"


async def test_a_model_that_crashes_children_again_and_again_is_refused_for_a_while() -> None:
    team = Team()
    for _ in range(CRASHES):
        with pytest.raises(ChildCrashed):
            await team.ask(b"crash")
    with pytest.raises(FailedPrecondition, match="crashed the process"):
        team.ask(b"refused")
    assert await team.ask(b"other", FRAUD) == b"other"


async def test_a_model_whose_files_are_gone_fails_its_own_requests_only() -> None:
    team = Team()
    with pytest.raises(NotFound):
        await team.ask(b"x", LaneKey(Model("acme", "m-missing", False), (1,), True))
    assert await team.ask(b"y") == b"y"


def test_a_quarantine_ends_and_crashes_long_ago_do_not_count() -> None:
    now = [0.0]
    quarantine = Quarantine(clock=lambda: now[0])
    for _ in range(CRASHES):
        quarantine.note("m")
        now[0] += 30.0
    quarantine.check("m")
    now[0] += 1000.0
    for _ in range(CRASHES):
        quarantine.note("m")
    with pytest.raises(FailedPrecondition):
        quarantine.check("m")
    quarantine.check("other")
    now[0] += 31.0
    quarantine.check("m")
