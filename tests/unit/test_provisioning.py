from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mlops.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound, Unavailable
from mlops.tenants.database import Database
from mlops.tenants.keys import KeyStore
from mlops.tenants.migrations import migrate
from mlops.tenants.provisioning import Provisioning
from mlops.tenants.store import TenantStore
from mlops.tenants.tenant import IssuedKey, NewTenant, Quota, Role, Tenant, TenantState

Step = Callable[[str], None]
ACME = NewTenant(slug="acme", display_name="Acme", quota=Quota(max_job_cpus=4), weight=2.0, labels={"a": "b"})


class Crash(Exception):
    """The process dies here."""


class Journal:
    """Writes down what is done, and dies at one step when asked to."""

    def __init__(self, *, die_at: int | None = None) -> None:
        self.steps: list[str] = []
        self.die_at = die_at

    def step(self, name: str) -> None:
        if len(self.steps) == self.die_at:
            self.die_at = None
            raise Crash(name)
        self.steps.append(name)


class Place:
    """A service where tenants have a place: their slug and weight."""

    def __init__(self, name: str, places: dict[str, float], step: Step) -> None:
        self.name = name
        self.places = places
        self._step = step

    async def ensure(self, tenant: Tenant) -> None:
        self._step(f"{self.name} begins")
        await asyncio.sleep(0)
        self.places[tenant.slug] = tenant.weight
        self._step(f"{self.name} done")

    async def remove(self, tenant: str) -> None:
        self._step(f"{self.name} begins to go")
        await asyncio.sleep(0)
        self.places.pop(tenant, None)
        self._step(f"{self.name} gone")


class MortalStore(TenantStore):
    """Dies behind what it committed, too."""

    def __init__(self, database: Database, step: Step) -> None:
        super().__init__(database)
        self._step = step

    async def create(self, new: NewTenant) -> Tenant:
        created = await super().create(new)
        self._step("row created")
        return created

    async def set_state(self, slug: str, state: TenantState) -> Tenant:
        changed = await super().set_state(slug, state)
        self._step(f"row {state}")
        return changed

    async def remove(self, slug: str) -> None:
        self._step("before the row goes")
        await super().remove(slug)


class MortalKeys(KeyStore):
    """Dies before the key or behind it."""

    def __init__(self, database: Database, step: Step) -> None:
        super().__init__(database)
        self._step = step

    async def issue_first(self, tenant: str, *, name: str = "owner") -> IssuedKey | None:
        self._step("before the key")
        issued = await super().issue_first(tenant, name=name)
        self._step("key issued")
        return issued


class World:
    """A database and two services that outlive every process."""

    def __init__(self, database: Database) -> None:
        self.store = TenantStore(database)
        self.keys = KeyStore(database)
        self.services: tuple[dict[str, float], dict[str, float]] = ({}, {})
        self._database = database

    def process(self, journal: Journal) -> Provisioning:
        """A new process over them."""
        first, second = self.services
        providers = (Place("first", first, journal.step), Place("second", second, journal.step))
        store, keys = MortalStore(self._database, journal.step), MortalKeys(self._database, journal.step)
        return Provisioning(store, keys, providers)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'mlops.db'}"
    await migrate(url)
    async with Database.open(url) as database:
        yield World(database)


CREATION = [
    "row created",
    "first begins",
    "first done",
    "second begins",
    "second done",
    "before the key",
    "key issued",
]
DELETION = [
    "row deleting",
    "second begins to go",
    "second gone",
    "first begins to go",
    "first gone",
    "before the row goes",
]


async def test_a_tenant_is_set_up_in_order_and_gets_an_owners_key(world: World) -> None:
    journal = Journal()
    tenant, issued = await world.process(journal).create(ACME)
    assert journal.steps == CREATION
    assert world.services == ({"acme": 2.0}, {"acme": 2.0})
    assert tenant.state is TenantState.ACTIVE
    assert tenant == await world.store.get("acme")
    assert issued is not None
    assert (issued.key.role, issued.key.tenant) == (Role.OWNER, "acme")
    assert (await world.keys.authenticate(issued.secret)).tenant == "acme"


@pytest.mark.parametrize("step", range(len(CREATION)), ids=CREATION)
async def test_a_creation_that_crashed_goes_on_with_the_same_call(world: World, step: int) -> None:
    with pytest.raises(Crash):
        await world.process(Journal(die_at=step)).create(ACME)
    tenant, issued = await world.process(Journal()).create(ACME)
    assert tenant.state is TenantState.ACTIVE
    assert world.services == ({"acme": 2.0}, {"acme": 2.0})
    # The one key, whether the second call got it or it was lost with the first one's answer.
    keys, _ = await world.keys.list("acme", include_inactive=True)
    assert len(keys) == 1
    assert (issued is None) == (CREATION[step] == "key issued")


@pytest.mark.parametrize("step", range(len(DELETION)), ids=DELETION)
async def test_a_deletion_that_crashed_goes_on_with_the_same_call(world: World, step: int) -> None:
    _, issued = await world.process(Journal()).create(ACME)
    assert issued is not None
    with pytest.raises(Crash):
        await world.process(Journal(die_at=step)).delete("acme")
    assert (await world.store.get("acme")).state is TenantState.DELETING
    with pytest.raises(FailedPrecondition):
        await world.keys.authenticate(issued.secret)
    await world.process(Journal()).delete("acme")
    assert world.services == ({}, {})
    with pytest.raises(NotFound):
        await world.store.get("acme")


async def test_a_tenant_is_taken_down_in_reverse_order(world: World) -> None:
    await world.process(Journal()).create(ACME)
    journal = Journal()
    await world.process(journal).delete("acme")
    assert journal.steps == DELETION
    with pytest.raises(NotFound):
        await world.process(Journal()).delete("acme")


async def test_a_half_created_tenant_can_be_deleted_and_its_slug_used_again(world: World) -> None:
    with pytest.raises(Crash):
        await world.process(Journal(die_at=CREATION.index("second begins"))).create(ACME)
    await world.process(Journal()).delete("acme")
    assert world.services == ({}, {})
    other = NewTenant(slug="acme", weight=9.0)
    tenant, issued = await world.process(Journal()).create(other)
    assert (tenant.weight, issued is not None) == (9.0, True)


async def test_creating_an_active_tenant_again_returns_it_with_no_key_and_touches_nothing(world: World) -> None:
    first, _ = await world.process(Journal()).create(ACME)
    journal = Journal()
    assert await world.process(journal).create(ACME) == (first, None)
    assert journal.steps == ["row created"]
    with pytest.raises(AlreadyExists):
        await world.process(journal).create(NewTenant(slug="acme"))


async def test_creations_at_once_in_one_process_or_in_several_give_one_key(world: World) -> None:
    one, other = world.process(Journal()), world.process(Journal())
    async with asyncio.timeout(30):
        created = await asyncio.gather(*(process.create(ACME) for process in (one, other, one, other)))
    assert {tenant.state for tenant, _ in created} == {TenantState.ACTIVE}
    assert sum(issued is not None for _, issued in created) == 1


async def test_a_tenant_that_is_being_deleted_is_not_created(world: World) -> None:
    await world.process(Journal()).create(ACME)
    with pytest.raises(Crash):
        await world.process(Journal(die_at=1)).delete("acme")
    with pytest.raises(FailedPrecondition):
        await world.process(Journal()).create(ACME)


async def test_a_tenant_deleted_by_another_process_while_it_is_set_up_gets_no_key(world: World) -> None:
    class DeletedMeanwhile(Place):
        async def ensure(self, tenant: Tenant) -> None:
            await super().ensure(tenant)
            await world.process(Journal()).delete(tenant.slug)

    place = DeletedMeanwhile("place", {}, Journal().step)
    with pytest.raises(FailedPrecondition):
        await Provisioning(world.store, world.keys, (place,)).create(ACME)
    assert (await world.store.list())[0] == ()


async def test_a_new_weight_reaches_the_providers_also_when_the_first_try_crashed(world: World) -> None:
    await world.process(Journal()).create(ACME)
    with pytest.raises(Crash):
        await world.process(Journal(die_at=0)).update("acme", weight=5.0)
    assert world.services == ({"acme": 2.0}, {"acme": 2.0})
    assert (await world.process(Journal()).update("acme", weight=5.0)).weight == 5.0
    assert world.services == ({"acme": 5.0}, {"acme": 5.0})


async def test_what_the_providers_do_not_read_is_changed_without_them(world: World) -> None:
    await world.process(Journal()).create(ACME)
    journal = Journal()
    changed = await world.process(journal).update("acme", display_name="ACME", quota={"max_active_jobs": 3})
    assert (changed.display_name, changed.quota) == ("ACME", Quota(max_job_cpus=4, max_active_jobs=3))
    assert journal.steps == []


async def test_a_provider_that_is_away_leaves_the_tenant_to_be_resumed(world: World) -> None:
    class Away(Place):
        async def ensure(self, tenant: Tenant) -> None:
            raise Unavailable("the provider is away")

    with pytest.raises(Unavailable):
        await Provisioning(world.store, world.keys, (Away("away", {}, Journal().step),)).create(ACME)
    assert (await world.store.get("acme")).state is TenantState.PROVISIONING
    _, issued = await world.process(Journal()).create(ACME)
    assert issued is not None


@pytest.mark.parametrize(
    "slug", ["", "a", "Acme", "a_b", "-a", "a-", "a" * 64, "a/b", "ä-b", "ab\n", "default", "admin", "temporal-system"]
)
async def test_a_slug_that_breaks_its_rule_is_refused_by_its_field(world: World, slug: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await world.process(Journal()).create(NewTenant(slug=slug))
    assert list(refused.value.violations) == ["slug"]
    assert (await world.store.list())[0] == ()
