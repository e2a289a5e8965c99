"""Who gets the next core of this host: the waiting tenant that has had the least for its weight.

A tenant's usage is its core-seconds, decayed with a half-life, so that the past is forgiven. Its level is its
usage divided by its weight; a free core goes to the lowest level. Two rules go with that:

Idleness is lent, and hardly banked. A tenant that comes back gets its share from the next free core on; of what
it left unused it may claim BANKED_SECONDS of the whole host at most, since more would starve the others for minutes.

What is large is not starved by what is small. A claim that does not fit is passed over, but only for
`patience`; after that, free cores and memory are kept until it does fit.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from mlops import errors

# Each core that a tenant holds counts as this many core-seconds more than it has used so far, so that cores that
# come free together are shared out, and do not all go to whoever is a moment behind. 1 is untested against others.
COMMITTED_SECONDS = 1.0
BANKED_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A claim at this moment. `seconds`: how long it has waited, or has held its cores."""

    tenant: str
    cpus: int
    memory_bytes: int
    seconds: float


@dataclass(eq=False, kw_only=True)
class Claim:
    """A wish for cores and memory. `since`: when it was made, and from its grant on, when that was."""

    tenant: str
    cpus: int
    memory_bytes: int
    since: float
    number: int
    granted: bool = False
    passed_over_at: float | None = None

    def standing(self, now: float) -> Standing:
        """What others may see of it."""
        return Standing(
            tenant=self.tenant, cpus=self.cpus, memory_bytes=self.memory_bytes, seconds=max(0.0, now - self.since)
        )


@dataclass(kw_only=True)
class _Share:
    """What a tenant has had, and what it waits for."""

    weight: float = 1.0
    # Decayed core-seconds, as of `as_of`.
    usage: float = 0.0
    as_of: float
    cpus: int = 0
    waiting: deque[Claim] = field(default_factory=deque)
    # Its tenant is gone: forgotten as soon as nothing of it is left.
    leaving: bool = False

    @property
    def is_busy(self) -> bool:
        return self.cpus > 0 or bool(self.waiting)

    @property
    def level(self) -> float:
        return (self.usage + COMMITTED_SECONDS * self.cpus) / self.weight

    def advance(self, now: float, decay: float) -> None:
        """Brings the usage up to date: du/dt = cpus - decay * u."""
        kept = math.exp(-decay * max(0.0, now - self.as_of))
        self.usage = self.usage * kept + self.cpus * (1.0 - kept) / decay
        self.as_of = now


class Ledger:
    """The arithmetic of fair shares, without a clock or a loop of its own: every call names the time, in seconds."""

    def __init__(self, cores: int, memory_bytes: int, *, half_life: timedelta, patience: timedelta) -> None:
        if cores < 1 or memory_bytes < 0 or half_life <= timedelta(0):
            raise ValueError("a host has at least one core, no negative memory, and a positive half-life")
        self.cores = cores
        self.memory_bytes = memory_bytes
        self._decay = math.log(2) / half_life.total_seconds()
        self._patience = patience.total_seconds()
        self._free_cores = cores
        self._free_memory = memory_bytes
        self._shares: dict[str, _Share] = {}
        self._held: dict[Claim, None] = {}
        self._numbers = itertools.count()

    def set_weight(self, tenant: str, weight: float, now: float) -> None:
        """A weight counts from now on: what the tenant has had is not judged again by its new weight."""
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"a weight is a positive number, got {weight}")
        share = self._share(tenant, now)
        share.advance(now, self._decay)
        share.usage *= weight / share.weight
        share.weight = weight
        share.leaving = False

    def remove(self, tenant: str) -> None:
        """Forgets a tenant, once nothing of it waits or runs."""
        share = self._shares.get(tenant)
        if share is not None:
            share.leaving = True
            self._forget(tenant, share)

    def usage(self, tenant: str, now: float) -> float:
        """The tenant's decayed core-seconds."""
        share = self._shares.get(tenant)
        if share is None:
            return 0.0
        share.advance(now, self._decay)
        return share.usage

    def claim(self, tenant: str, cpus: int, memory_bytes: int, now: float) -> Claim:
        """Queues behind the tenant's other claims. Raises errors.QuotaExceeded for what never fits on this host."""
        if cpus < 1 or memory_bytes < 0:
            raise ValueError(f"a claim is for at least one core and no negative memory, got {cpus} and {memory_bytes}")
        for limit, wanted, there in (
            ("host_cpus", cpus, self.cores),
            ("host_memory_bytes", memory_bytes, self.memory_bytes),
        ):
            if wanted > there:
                raise errors.QuotaExceeded(f"The step asks for {limit} {wanted}; this host has {there}", limit=limit)
        share = self._share(tenant, now)
        self._advance(now)
        if not share.is_busy:
            floor = min((other.usage / other.weight for other in self._shares.values() if other.is_busy), default=0.0)
            share.usage = max(share.usage, floor * share.weight - BANKED_SECONDS * self.cores)
        claim = Claim(tenant=tenant, cpus=cpus, memory_bytes=memory_bytes, since=now, number=next(self._numbers))
        share.waiting.append(claim)
        return claim

    def withdraw(self, claim: Claim, now: float) -> None:
        """Ends a claim: gives back what it holds, or takes it out of the queue."""
        share = self._shares[claim.tenant]
        if claim.granted:
            share.advance(now, self._decay)
            share.cpus -= claim.cpus
            self._free_cores += claim.cpus
            self._free_memory += claim.memory_bytes
            del self._held[claim]
        else:
            share.waiting.remove(claim)
        self._forget(claim.tenant, share)

    def grant(self, now: float) -> list[Claim]:
        """The claims that start now, in their order."""
        self._advance(now)
        granted = []
        while (claim := self._next(now)) is not None:
            share = self._shares[claim.tenant]
            share.waiting.popleft()
            share.cpus += claim.cpus
            self._free_cores -= claim.cpus
            self._free_memory -= claim.memory_bytes
            claim.granted, claim.since = True, now
            self._held[claim] = None
            granted.append(claim)
        return granted

    def waiting(self, now: float) -> tuple[Standing, ...]:
        """Claims without cores, oldest first."""
        claims = (claim for share in self._shares.values() for claim in share.waiting)
        return tuple(claim.standing(now) for claim in sorted(claims, key=lambda claim: claim.number))

    def running(self, now: float) -> tuple[Standing, ...]:
        """Claims that hold cores, in the order in which they got them."""
        return tuple(claim.standing(now) for claim in self._held)

    def _next(self, now: float) -> Claim | None:
        """The next claim to start. None where none may: cores are kept for one that has been passed over too long."""
        heads = [(share.level, share.waiting[0]) for share in self._shares.values() if share.waiting]
        for _, claim in sorted(heads, key=lambda head: (round(head[0], 9), head[1].number)):
            if claim.cpus <= self._free_cores and claim.memory_bytes <= self._free_memory:
                return claim
            if claim.passed_over_at is None:
                claim.passed_over_at = now
            if now - claim.passed_over_at >= self._patience:
                return None
        return None

    def _share(self, tenant: str, now: float) -> _Share:
        return self._shares.setdefault(tenant, _Share(as_of=now))

    def _advance(self, now: float) -> None:
        for share in self._shares.values():
            share.advance(now, self._decay)

    def _forget(self, tenant: str, share: _Share) -> None:
        if share.leaving and not share.is_busy:
            del self._shares[tenant]


class FairShare:
    """The gate before the pool, for one event loop: `async with fair.lease(tenant, cpus, memory_bytes):`."""

    def __init__(
        self,
        cores: int,
        memory_bytes: int,
        *,
        half_life: timedelta = timedelta(minutes=5),
        patience: timedelta = timedelta(seconds=5),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """half_life: after which a core-second counts half. patience: how long a claim may be passed over."""
        self._ledger = Ledger(cores, memory_bytes, half_life=half_life, patience=patience)
        self._clock = clock
        self._grants: dict[Claim, asyncio.Future[None]] = {}

    def set_weight(self, tenant: str, weight: float) -> None:
        """Sets a tenant's share against the others', from now on. A tenant that was never told of has 1."""
        self._ledger.set_weight(tenant, weight, self._clock())
        self._grant()

    def remove(self, tenant: str) -> None:
        """Forgets a tenant, once nothing of it waits or runs."""
        self._ledger.remove(tenant)

    def usage(self, tenant: str) -> float:
        """The tenant's core-seconds, decayed."""
        return self._ledger.usage(tenant, self._clock())

    def waiting(self) -> tuple[Standing, ...]:
        """Who waits, oldest first."""
        return self._ledger.waiting(self._clock())

    def running(self) -> tuple[Standing, ...]:
        """Who holds cores, in the order in which they got them."""
        return self._ledger.running(self._clock())

    @asynccontextmanager
    async def lease(self, tenant: str, cpus: int, memory_bytes: int) -> AsyncIterator[None]:
        """Waits for cores and memory, and holds them while the block runs. Inside a tenant, first come, first served.

        Cancelling the wait gives up the claim. Raises errors.QuotaExceeded at once for what never fits.
        """
        claim = self._ledger.claim(tenant, cpus, memory_bytes, self._clock())
        granted = self._grants[claim] = asyncio.get_running_loop().create_future()
        try:
            self._grant()
            await granted
            yield
        finally:
            del self._grants[claim]
            self._ledger.withdraw(claim, self._clock())
            self._grant()

    def _grant(self) -> None:
        for claim in self._ledger.grant(self._clock()):
            granted = self._grants[claim]
            if not granted.done():  # its waiter may be cancelled, and give the cores back in a moment
                granted.set_result(None)
