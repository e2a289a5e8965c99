"""Fair shares: the arithmetic under a clock of our own, and the waiting on a real loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops import errors
from mlops.workers.fair import Claim, FairShare, Ledger

GIB = 1024**3


def ledger(cores: int = 2, memory_bytes: int = 64 * GIB, patience: float = 5.0) -> Ledger:
    return Ledger(cores, memory_bytes, half_life=timedelta(minutes=5), patience=timedelta(seconds=patience))


class Simulation:
    """A host under load: `backlog` claims of a tenant are always queued while it is active."""

    def __init__(self, host: Ledger, seconds: Callable[[str], float]) -> None:
        self.host = host
        self.seconds = seconds
        self.now = 0.0
        self.active: set[str] = set()
        self.cpus: dict[str, int] = {}
        self.core_seconds: Counter[str] = Counter()
        self.queued: Counter[str] = Counter()
        self.ends: list[tuple[float, int, Claim]] = []
        self.order = itertools.count()
        self.starts: list[tuple[float, str]] = []

    def run(self, seconds: float) -> Counter[str]:
        """Goes on for this long. The core-seconds each tenant had meanwhile."""
        until, before = self.now + seconds, Counter(self.core_seconds)
        while True:
            for tenant in sorted(self.active):
                while self.queued[tenant] < 4:
                    self.host.claim(tenant, self.cpus.get(tenant, 1), 0, self.now)
                    self.queued[tenant] += 1
            for claim in self.host.grant(self.now):
                self.queued[claim.tenant] -= 1
                self.starts.append((self.now, claim.tenant))
                end = self.now + self.seconds(claim.tenant)
                heapq.heappush(self.ends, (end, next(self.order), claim))
            if not self.ends or self.ends[0][0] > until:
                self._pass(until)
                return self.core_seconds - before
            end, _, claim = heapq.heappop(self.ends)
            self._pass(end)
            self.host.withdraw(claim, self.now)

    def _pass(self, now: float) -> None:
        for standing in self.host.running(self.now):
            self.core_seconds[standing.tenant] += (now - self.now) * standing.cpus  # type: ignore[assignment]  # floats
        self.now = now


@pytest.mark.parametrize("weights", [(3, 1), (8, 1), (4, 2, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("task_seconds", [0.2, 3.0])
def test_busy_tenants_share_the_cores_by_their_weights(weights: tuple[int, ...], task_seconds: float) -> None:
    host, rng = ledger(), random.Random(1)
    simulation = Simulation(host, lambda tenant: rng.uniform(0.5, 1.5) * task_seconds)
    for index, weight in enumerate(weights):
        host.set_weight(f"t{index}", weight, 0.0)
        simulation.active.add(f"t{index}")
    for index in range(5):
        host.set_weight(f"idle{index}", 5, 0.0)
    had = simulation.run(2000 * task_seconds)
    total = sum(had.values())
    assert total == pytest.approx(2 * 2000 * task_seconds, rel=0.001)
    for index, weight in enumerate(weights):
        assert had[f"t{index}"] / total == pytest.approx(weight / sum(weights), rel=0.06, abs=0.01)


def test_long_tasks_of_one_tenant_do_not_cost_another_its_share() -> None:
    host = ledger(cores=4)
    simulation = Simulation(host, lambda tenant: 60.0 if tenant == "slow" else 0.5)
    simulation.active = {"slow", "quick"}
    had = simulation.run(3600)
    assert had["slow"] / had["quick"] == pytest.approx(1, rel=0.06)


def test_an_idle_share_is_lent_and_comes_back_at_the_next_free_core() -> None:
    host = ledger()
    host.set_weight("steady", 1, 0.0)
    host.set_weight("guest", 1, 0.0)
    simulation = Simulation(host, lambda tenant: 1.0)
    simulation.active = {"steady"}
    assert simulation.run(600)["steady"] == pytest.approx(1200)
    simulation.active.add("guest")
    simulation.starts.clear()
    simulation.run(60)
    assert next(at for at, tenant in simulation.starts if tenant == "guest") - 600 <= 1.0
    had = simulation.run(600)
    assert had["steady"] / had["guest"] == pytest.approx(1, abs=0.05)


def test_what_a_tenant_left_unused_does_not_let_it_starve_the_others() -> None:
    host = ledger()
    host.set_weight("guest", 8, 0.0)
    simulation = Simulation(host, lambda tenant: 1.0)
    simulation.active = {"steady"}
    simulation.run(3600)
    simulation.active.add("guest")
    assert simulation.run(12)["steady"] >= 1  # not starved for longer than what may be banked
    assert simulation.run(90)["steady"] == pytest.approx(2 * 90 / 9, abs=4)


def test_a_tenant_that_used_much_lately_gives_way_to_one_that_used_little() -> None:
    host = ledger(cores=1)
    greedy, modest = host.claim("greedy", 1, 0, 0.0), host.claim("modest", 1, 0, 0.0)
    assert host.grant(0.0) == [greedy]
    host.withdraw(greedy, 100.0)
    assert host.grant(100.0) == [modest]
    host.withdraw(modest, 101.0)
    for tenant in ("greedy", "modest", "other"):
        host.claim(tenant, 1, 0, 101.0)
    assert [claim.tenant for claim in host.grant(101.0)] == ["other"]


def test_usage_decays_by_half_in_its_half_life() -> None:
    host = ledger(cores=4)
    claim = host.claim("a", 4, 0, 0.0)
    host.grant(0.0)
    host.withdraw(claim, 10.0)
    assert host.usage("a", 10.0) == pytest.approx(40, rel=0.02)
    assert host.usage("a", 310.0) == pytest.approx(host.usage("b", 310.0) + 20, rel=0.02)
    assert host.usage("a", 10_000.0) == pytest.approx(0, abs=1e-6)


def test_a_new_weight_counts_from_now_on() -> None:
    host = ledger()
    simulation = Simulation(host, lambda tenant: 1.0)
    simulation.active = {"a", "b"}
    simulation.run(1200)
    host.set_weight("a", 3, simulation.now)
    had = simulation.run(60)
    assert had["a"] / had["b"] == pytest.approx(3, rel=0.2)


def test_cores_that_come_free_together_are_shared_out() -> None:
    host = ledger(cores=8)
    host.set_weight("a", 3, 0.0)
    for _ in range(8):
        host.claim("a", 1, 0, 0.0)
        host.claim("b", 1, 0, 0.0)
    assert Counter(claim.tenant for claim in host.grant(0.0)) == {"a": 6, "b": 2}


def test_a_tenants_own_claims_are_served_in_order() -> None:
    host = ledger(cores=1)
    claims = [host.claim("a", 1, 0, float(i)) for i in range(5)]
    served = []
    for now in range(5, 10):
        served += (granted := host.grant(float(now)))
        host.withdraw(granted[0], float(now))
    assert served == claims


def test_a_large_claim_is_not_starved_by_small_ones() -> None:
    host, rng = ledger(cores=4), random.Random(2)
    simulation = Simulation(host, lambda tenant: rng.uniform(1, 3))
    simulation.active = {"large", "s1", "s2", "s3"}
    simulation.cpus = {"large": 4}
    had = simulation.run(1000)
    assert had["large"] / 4000 == pytest.approx(0.25, abs=0.06)
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(s for s in simulation.starts if s[1] == "large")]
    assert max(gaps) < 60


def test_small_claims_pass_a_large_one_only_as_long_as_patience_lasts() -> None:
    host = ledger(cores=2, patience=5)
    first, second = host.claim("small", 1, 0, 0.0), host.claim("small", 1, 0, 0.0)
    assert host.grant(0.0) == [first, second]
    large = host.claim("large", 2, 0, 1.0)
    third, fourth = host.claim("small", 1, 0, 1.0), host.claim("small", 1, 0, 1.0)
    assert host.grant(1.0) == []
    host.withdraw(first, 3.0)
    assert host.grant(3.0) == [third]
    host.withdraw(third, 7.0)
    assert host.grant(7.0) == []
    host.withdraw(second, 8.0)
    assert host.grant(8.0) == [large]
    host.withdraw(large, 9.0)
    assert host.grant(9.0) == [fourth]


def test_memory_is_respected_as_cores_are() -> None:
    host = ledger(cores=8, memory_bytes=10 * GIB)
    first = host.claim("a", 1, 8 * GIB, 0.0)
    second = host.claim("a", 1, 8 * GIB, 0.0)
    light = host.claim("b", 1, 1 * GIB, 0.0)
    assert set(host.grant(0.0)) == {first, light}
    host.withdraw(first, 1.0)
    assert host.grant(1.0) == [second]


def test_what_no_host_of_this_size_can_run_is_refused_at_once() -> None:
    host = ledger(cores=4, memory_bytes=8 * GIB)
    with pytest.raises(errors.QuotaExceeded, match="host_cpus") as caught:
        host.claim("a", 5, 0, 0.0)
    assert caught.value.limit == "host_cpus"
    with pytest.raises(errors.QuotaExceeded, match="host_memory_bytes"):
        host.claim("a", 1, 9 * GIB, 0.0)
    with pytest.raises(ValueError, match="at least one core"):
        host.claim("a", 0, 0, 0.0)
    with pytest.raises(ValueError, match="positive"):
        host.set_weight("a", 0, 0.0)


@settings(deadline=None, max_examples=150)
@given(
    cores=st.integers(1, 8),
    patience=st.floats(0, 20),
    events=st.lists(
        st.tuples(
            st.sampled_from(["claim", "claim", "end", "end", "withdraw", "weigh", "remove"]),
            st.integers(0, 3),
            st.integers(1, 8),
            st.floats(0, 30),
        ),
        max_size=80,
    ),
)
def test_nothing_is_lost_or_given_twice(cores: int, patience: float, events: list[tuple[str, int, int, float]]) -> None:
    host, now = ledger(cores, 8 * GIB, patience), 0.0
    waiting: list[Claim] = []
    held: list[Claim] = []
    for what, index, amount, wait in events:
        now += wait
        tenant = f"t{index}"
        if what == "claim":
            waiting.append(host.claim(tenant, min(amount, cores), amount * GIB, now))
        elif what == "end" and held:
            host.withdraw(held.pop(amount % len(held)), now)
        elif what == "withdraw" and waiting:
            host.withdraw(waiting.pop(amount % len(waiting)), now)
        elif what == "weigh":
            host.set_weight(tenant, float(amount), now)
        elif what == "remove":
            host.remove(tenant)
        for claim in host.grant(now):
            waiting.remove(claim)
            held.append(claim)
        assert sum(claim.cpus for claim in held) <= cores
        assert sum(claim.memory_bytes for claim in held) <= 8 * GIB
        assert len(host.waiting(now)) == len(waiting)
        assert len(host.running(now)) == len(held)
        assert held or not waiting, "an empty host starts whatever waits"
        assert all(host.usage(f"t{i}", now) >= 0 for i in range(4))
    while held or waiting:
        now += 1
        host.withdraw(held.pop(0), now)
        for claim in host.grant(now):
            waiting.remove(claim)
            held.append(claim)
    assert host.waiting(now) == host.running(now) == ()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lease_waits_for_its_cores_and_gives_them_back() -> None:
    clock = Clock()
    fair = FairShare(2, GIB, clock=clock)
    release = asyncio.Event()

    async def work(tenant: str, cpus: int) -> None:
        async with fair.lease(tenant, cpus, 0):
            await release.wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(work("a", 2))
        await settle()
        group.create_task(work("b", 1))
        await settle()
        clock.now = 3.0
        assert [(s.tenant, s.cpus, s.seconds) for s in fair.running()] == [("a", 2, 3.0)]
        assert [(s.tenant, s.cpus, s.seconds) for s in fair.waiting()] == [("b", 1, 3.0)]
        assert fair.usage("a") == pytest.approx(6, rel=0.02)
        release.set()
    assert fair.running() == fair.waiting() == ()


async def test_cancelling_a_wait_gives_up_the_claim_and_lets_the_next_one_in() -> None:
    fair = FairShare(2, GIB)
    entered: list[str] = []

    async def work(name: str, cpus: int) -> None:
        async with fair.lease("a", cpus, 0):
            entered.append(name)
            await asyncio.sleep(3600)

    first = asyncio.create_task(work("first", 1))
    large = asyncio.create_task(work("large", 2))
    small = asyncio.create_task(work("small", 1))
    await settle()
    assert entered == ["first"]
    large.cancel()
    await settle()
    assert entered == ["first", "small"]
    for task in (first, small):
        task.cancel()
    await asyncio.gather(first, large, small, return_exceptions=True)
    assert fair.running() == fair.waiting() == ()


async def test_a_wait_cancelled_in_the_instant_of_its_grant_costs_no_core() -> None:
    fair = FairShare(1, GIB)
    holder = fair.lease("a", 1, 0)
    await holder.__aenter__()

    async def work() -> str:
        async with fair.lease("b", 1, 0):
            return "done"

    unlucky, next_one = asyncio.create_task(work()), asyncio.create_task(work())
    await settle()
    await holder.__aexit__(None, None, None)  # grants to the first ...
    unlucky.cancel()  # ... which is gone before it hears of it
    async with asyncio.timeout(5):
        assert await next_one == "done"
    with pytest.raises(asyncio.CancelledError):
        await unlucky
    assert fair.running() == fair.waiting() == ()


async def test_a_body_that_fails_gives_its_cores_back() -> None:
    fair = FairShare(1, GIB)
    with pytest.raises(RuntimeError, match="inside"):
        async with fair.lease("a", 1, 0):
            raise RuntimeError("inside")
    assert fair.running() == ()


async def test_a_refused_lease_leaves_nothing_behind() -> None:
    fair = FairShare(1, GIB)
    with pytest.raises(errors.QuotaExceeded):
        async with fair.lease("a", 2, 0):
            pytest.fail("entered")
    assert fair.waiting() == ()


async def test_a_removed_tenant_is_forgotten_once_its_work_has_ended() -> None:
    clock = Clock()
    fair = FairShare(1, GIB, clock=clock)
    async with fair.lease("a", 1, 0):
        fair.remove("a")
        clock.now = 10.0
        assert fair.usage("a") > 9
    assert fair.usage("a") == 0.0
    fair.remove("never-seen")
