"""API keys are stored alike in SQLite and in PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import delete

from mlops import names
from mlops.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from mlops.tenants.database import Database
from mlops.tenants.keys import KeyStore
from mlops.tenants.provisioning import Provisioning
from mlops.tenants.store import TenantStore
from mlops.tenants.tables import KeyRow
from mlops.tenants.tenant import IssuedKey, NewTenant, Role, TenantState
from tests.fixtures.database import START, Clock, active


async def test_a_key_tells_who_calls(keys: KeyStore, acme: str) -> None:
    issued = await keys.issue(acme, role=Role.SUBMITTER, name="ann@acme")
    principal = await keys.authenticate(issued.secret)
    assert (principal.key_id, principal.name, principal.role, principal.tenant) == (
        issued.key.id,
        "ann@acme",
        Role.SUBMITTER,
        "acme",
    )


async def test_the_secret_is_stored_nowhere(keys: KeyStore, database: Database, acme: str) -> None:
    issued = await keys.issue(acme, role=Role.VIEWER, name="ann")
    parsed = names.parse_api_key(issued.secret)
    assert parsed is not None
    async with database.read() as session:
        stored = (await session.execute(KeyRow.__table__.select())).one()
    assert parsed[1] not in str(stored)


async def test_every_key_that_does_not_work_is_refused_in_the_same_words(
    keys: KeyStore, clock: Clock, acme: str
) -> None:
    good = await keys.issue(acme, role=Role.VIEWER, name="good")
    revoked = await keys.issue(acme, role=Role.VIEWER, name="revoked")
    await keys.revoke(revoked.key.id, tenant=acme)
    expired = await keys.issue(acme, role=Role.VIEWER, name="expired", expires_at=START + timedelta(seconds=1))
    clock.pass_time(timedelta(seconds=1))
    unknown = names.new_api_key()[2]
    wrong_secret = good.secret[:-43] + unknown[-43:]
    messages = set()
    for key in (revoked.secret, expired.secret, unknown, wrong_secret, "", "mlops_", good.secret + "x", "\ud800\0"):
        with pytest.raises(Unauthenticated) as refused:
            await keys.authenticate(key)
        messages.add(str(refused.value))
    assert len(messages) == 1
    await keys.authenticate(good.secret)


async def test_a_key_of_a_tenant_that_is_not_active_is_refused_with_the_reason(
    keys: KeyStore, tenants: TenantStore, clock: Clock, acme: str
) -> None:
    issued = await keys.issue(acme, role=Role.OWNER, name="ann")
    await tenants.set_state(acme, TenantState.DELETING)
    with pytest.raises(FailedPrecondition, match="being deleted"):
        await keys.authenticate(issued.secret)
    with pytest.raises(FailedPrecondition, match="being deleted"):
        await keys.issue(acme, role=Role.OWNER, name="bob")
    await tenants.set_state(acme, TenantState.PROVISIONING)
    with pytest.raises(FailedPrecondition, match="being set up"):
        await keys.authenticate(issued.secret)


async def test_a_revoked_key_fails_in_every_gateway_within_two_seconds(
    keys: KeyStore, database: Database, clock: Clock, acme: str
) -> None:
    other_gateway = KeyStore(database, clock=clock.now, timer=clock.monotonic)
    issued = await keys.issue(acme, role=Role.OWNER, name="ann")
    await other_gateway.authenticate(issued.secret)
    await keys.authenticate(issued.secret)
    await keys.revoke(issued.key.id, tenant=acme)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(issued.secret)
    clock.pass_time(timedelta(seconds=2))
    with pytest.raises(Unauthenticated):
        await other_gateway.authenticate(issued.secret)


async def test_a_key_that_was_just_seen_is_not_looked_up_again(
    keys: KeyStore, database: Database, clock: Clock, acme: str
) -> None:
    issued = await keys.issue(acme, role=Role.OWNER, name="ann", expires_at=START + timedelta(seconds=0.5))
    await keys.authenticate(issued.secret)
    async with database.write() as session:
        await session.execute(delete(KeyRow))
    clock.pass_time(timedelta(seconds=0.4))
    await keys.authenticate(issued.secret)
    # Not even from the cache once it has expired.
    clock.pass_time(timedelta(seconds=0.1))
    with pytest.raises(Unauthenticated):
        await keys.authenticate(issued.secret)


async def test_the_last_use_is_noted_once_a_minute(keys: KeyStore, clock: Clock, acme: str) -> None:
    issued = await keys.issue(acme, role=Role.OWNER, name="ann")
    noted = []
    for _ in range(4):
        await keys.authenticate(issued.secret)
        noted.append((await keys.list(acme))[0][0].last_used_at)
        clock.pass_time(timedelta(seconds=25))
    assert noted == [START, START, START, START + timedelta(seconds=75)]


async def test_a_call_is_let_in_although_its_use_cannot_be_noted(
    keys: KeyStore, acme: str, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    issued = await keys.issue(acme, role=Role.OWNER, name="ann")

    def away() -> None:
        raise Unavailable("the database did not answer")

    monkeypatch.setattr(database, "write", away)
    assert (await keys.authenticate(issued.secret)).name == "ann"


async def test_keys_are_listed_newest_first_without_those_that_ended(keys: KeyStore, clock: Clock, acme: str) -> None:
    issued = []
    for number in range(5):
        expiry = START + timedelta(seconds=30) if number == 3 else None
        issued.append((await keys.issue(acme, role=Role.VIEWER, name=f"k{number}", expires_at=expiry)).key)
        clock.pass_time(timedelta(seconds=1))
    await keys.issue(None, role=Role.ADMINISTRATOR, name="root")
    await keys.revoke(issued[1].id, tenant=acme)
    clock.pass_time(timedelta(minutes=1))
    first, token = await keys.list(acme, page_size=2)
    second, end = await keys.list(acme, page_size=2, page_token=token)
    assert [key.name for key in first + second] == ["k4", "k2", "k0"]
    assert end == ""
    everything, _ = await keys.list(acme, include_inactive=True)
    assert [key.name for key in everything] == ["k4", "k3", "k2", "k1", "k0"]
    assert [key.name for key in (await keys.list(None))[0]] == ["root"]
    with pytest.raises(InvalidRequest):
        await keys.list(acme, page_token=token, include_inactive=True)
    with pytest.raises(InvalidRequest):
        await keys.list(acme, page_size=1001)
    with pytest.raises(NotFound):
        await keys.list("none")


async def test_a_key_is_revoked_only_within_the_callers_scope(
    keys: KeyStore, tenants: TenantStore, clock: Clock, acme: str
) -> None:
    rival = await active(tenants, "rival")
    issued = await keys.issue(acme, role=Role.VIEWER, name="ann")
    administrator = await keys.issue(None, role=Role.ADMINISTRATOR, name="root")
    for key_id in (issued.key.id, administrator.key.id, "000000000000", "x" * 99):
        with pytest.raises(NotFound):
            await keys.revoke(key_id, tenant=rival)
    revoked = await keys.revoke(issued.key.id, tenant=None)
    assert revoked.revoked_at == START
    clock.pass_time(timedelta(hours=1))
    assert await keys.revoke(issued.key.id, tenant=acme) == revoked
    await keys.authenticate(administrator.secret)


async def test_a_key_that_breaks_a_rule_is_not_issued(keys: KeyStore, acme: str) -> None:
    for tenant, role, name, expiry, field in (
        (acme, Role.ADMINISTRATOR, "ann", None, "role"),
        (None, Role.OWNER, "ann", None, "role"),
        (acme, Role.OWNER, "", None, "name"),
        (acme, Role.OWNER, "x" * 201, None, "name"),
        (acme, Role.OWNER, "ann", START, "expires_at"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await keys.issue(tenant, role=role, name=name, expires_at=expiry)
        assert list(refused.value.violations) == [field]
    with pytest.raises(NotFound):
        await keys.issue("none", role=Role.OWNER, name="ann")


async def test_the_bootstrap_key_is_imported_once(keys: KeyStore) -> None:
    _, _, key = names.new_api_key()

    async def imported() -> object:
        return await keys.import_key(key, role=Role.ADMINISTRATOR, name="bootstrap")

    first = await asyncio.gather(*(imported() for _ in range(6)))
    assert len(set(map(str, first))) == 1
    principal = await keys.authenticate(key)
    assert (principal.role, principal.tenant) == (Role.ADMINISTRATOR, None)
    await keys.revoke(principal.key_id, tenant=None)
    await imported()
    with pytest.raises(Unauthenticated):  # what was revoked stays so
        await keys.authenticate(key)
    with pytest.raises(AlreadyExists):
        await keys.import_key(key[:-43] + names.new_api_key()[2][-43:], role=Role.ADMINISTRATOR, name="bootstrap")
    with pytest.raises(InvalidRequest):
        await keys.import_key("secret", role=Role.ADMINISTRATOR, name="bootstrap")


async def test_a_tenant_created_by_two_gateways_at_once_gets_one_key(database_url: str, database: Database) -> None:
    async def create() -> IssuedKey | None:
        provisioning = Provisioning(TenantStore(database), KeyStore(database), ())
        tenant, key = await provisioning.create(NewTenant(slug="acme"))
        assert tenant.state is TenantState.ACTIVE
        return key

    keys = [key for key in await asyncio.gather(*(create() for _ in range(8))) if key is not None]
    assert len(keys) == 1
    assert (await KeyStore(database).authenticate(keys[0].secret)).role is Role.OWNER
    assert len((await KeyStore(database).list("acme", include_inactive=True))[0]) == 1
