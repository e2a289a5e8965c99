"""What a serving host takes and refuses, and who has to make room for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from mlops.errors import Cancelled, InvalidRequest, MlopsError, QuotaExceeded, Unavailable
from mlops.settings import ServingSettings
from mlops.v1 import models_pb2
from mlops.v1 import serving_pb2 as pb
from mlops.workers.serving.files import ModelFiles
from mlops.workers.serving.host import NEW_CHILD_BYTES, Host
from tests.fixtures.serving import PretendedChild, PretendedFiles

DEADLINE = 5.0
MODEL = f"m-{'a' * 32}"


@dataclass
class PretendedNursery:
    children: list[PretendedChild] = field(default_factory=list)

    async def spawn(self) -> PretendedChild:
        self.children.append(PretendedChild())
        return self.children[-1]

    async def close(self) -> None:
        for child in self.children:
            child.kill()


class Served:
    """A host with pretended children; `ask` gives the answer of a request."""

    def __init__(self, **changes: object) -> None:
        given = {"storage_url": "file:///nowhere", "scratch_dir": Path("/nowhere"), "max_children": 1, **changes}
        self.nursery = PretendedNursery()
        self.host = Host(ServingSettings.model_validate(given), cast("ModelFiles", PretendedFiles()))
        self.host._nursery = self.nursery  # type: ignore[assignment]

    @property
    def children(self) -> list[PretendedChild]:
        """Those that live."""
        return [child for child in self.nursery.children if not child.exited.done()]

    def ask(self, tenant: str = "acme", model: str = MODEL) -> asyncio.Future[bytes]:
        self.last, future = self._take(tenant, model)
        return future

    def _take(self, tenant: str, model: str) -> tuple[object, asyncio.Future[bytes]]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(outcome: pb.Outcome | MlopsError) -> None:
            if isinstance(outcome, MlopsError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome.outputs)

        order = pb.PredictOrder(
            model=pb.StagedModel(tenant=tenant, model_id=model),
            methods=[models_pb2.PREDICT_METHOD_PREDICT],
            rows=tenant.encode(),
            row_count=1,
        )
        return self.host.predict(order, DEADLINE, answer), future


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served(max_queued=3)
    yield made
    await made.host.close(timedelta(0))


async def within(future: asyncio.Future[bytes]) -> bytes:
    return await asyncio.wait_for(future, DEADLINE)


async def test_two_tenants_never_share_a_child(served: Served) -> None:
    assert [await within(served.ask(tenant)) for tenant in ("acme", "globex", "acme")] == [b"acme", b"globex", b"acme"]
    assert [[list(batch.requests) for batch in child.batches] for child in served.children] == [
        [[b"acme"], [b"acme"]],
        [[b"globex"]],
    ]


async def test_what_all_tenants_together_may_have_waiting_is_bounded(served: Served) -> None:
    await within(served.ask())
    served.children[0].may_answer.clear()
    asked = [served.ask() for _ in range(3)]
    with pytest.raises(QuotaExceeded) as caught:
        served.ask("globex")
    assert caught.value.limit == "serving_queue"
    served.children[0].may_answer.set()
    for future in asked:
        await within(future)
    assert await within(served.ask("globex")) == b"globex"


@pytest.mark.parametrize(
    ("tenant", "model"),
    [("acme", "../../globex/models/m-1"), ("Acme", MODEL), ("", MODEL), ("acme", ""), ("a/b", MODEL)],
)
async def test_a_model_outside_of_its_tenant_is_refused(served: Served, tenant: str, model: str) -> None:
    with pytest.raises(InvalidRequest):
        served.ask(tenant, model)


async def test_a_request_whose_caller_is_gone_is_not_predicted(served: Served) -> None:
    await within(served.ask())
    child = served.children[0]
    child.may_answer.clear()
    first = served.ask()
    second = served.ask()
    served.last.settle(Cancelled("gone"))  # type: ignore[attr-defined]
    child.may_answer.set()
    await within(first)
    with pytest.raises(Cancelled):
        await within(second)
    await within(served.ask())
    assert [len(batch.requests) for batch in child.batches] == [1, 1, 1]


async def test_a_child_without_work_makes_room_for_another_tenant_the_least_recently_used_first() -> None:
    served = Served()
    for tenant in ("acme", "globex", "initech", "acme"):
        await within(served.ask(tenant))
    held = {crew._tenant: crew.servants[0] for crew in served.host._crews.values()}
    for servant in held.values():
        servant.held_bytes = NEW_CHILD_BYTES
    object.__setattr__(served.host._settings, "memory_bytes", 3 * NEW_CHILD_BYTES)
    assert await within(served.ask("umbrella")) == b"umbrella"
    assert [tenant for tenant, servant in held.items() if servant.is_gone] == ["globex"]
    await served.host.close(timedelta(0))


async def test_where_all_the_memory_is_in_use_a_request_is_shed() -> None:
    served = Served()
    await within(served.ask())
    served.children[0].may_answer.clear()
    busy = served.ask()
    await asyncio.sleep(0)
    [crew] = served.host._crews.values()
    crew.servants[0].held_bytes = NEW_CHILD_BYTES
    object.__setattr__(served.host._settings, "memory_bytes", NEW_CHILD_BYTES)
    with pytest.raises(QuotaExceeded) as caught:
        await within(served.ask("globex"))
    assert caught.value.limit == "serving_memory"
    served.children[0].may_answer.set()
    assert await within(busy) == b"acme"
    await served.host.close(timedelta(0))


async def test_a_host_that_stops_finishes_what_it_holds_and_takes_nothing_more(served: Served) -> None:
    await within(served.ask())
    child = served.children[0]
    child.may_answer.clear()
    held = served.ask()
    closing = asyncio.ensure_future(served.host.close(timedelta(seconds=DEADLINE)))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        served.ask()
    child.may_answer.set()
    assert await within(held) == b"acme"
    await asyncio.wait_for(closing, DEADLINE)
    assert not served.children


async def test_what_is_not_finished_within_the_grace_is_told_so(served: Served) -> None:
    await within(served.ask())
    served.children[0].may_answer.clear()
    held = served.ask()
    await asyncio.wait_for(served.host.close(timedelta(milliseconds=20)), DEADLINE)
    with pytest.raises(Unavailable):
        await within(held)
