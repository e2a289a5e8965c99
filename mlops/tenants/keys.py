"""API keys in the database.

A key's secret is 256 random bits. Only its SHA-256 is stored: a slow hash protects secrets that can be guessed,
and would cost each call a tenth of a second for nothing here.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from cachetools import LRUCache
from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mlops import names
from mlops.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound, Unauthenticated, Unavailable
from mlops.jobs.pages import Listing
from mlops.jobs.pages import page_size as items_of
from mlops.tenants.database import Database, now
from mlops.tenants.lookups import SharedLookups
from mlops.tenants.tables import KeyRow, TenantRow
from mlops.tenants.tenant import ApiKey, IssuedKey, Principal, Role, TenantState

# A revoked key, or one of a tenant that is being deleted, works for as long in a gateway that has just seen it.
CACHE_TTL = timedelta(seconds=1)
# About 300 bytes each.
CACHE_ENTRIES = 10_000
# How exact last_used_at is: a write for each call would be the busiest one of the database.
USE_INTERVAL = timedelta(minutes=1)
MAX_NAME_CHARS = 200
FIRST_KEY_NAME = "owner"

_log = structlog.get_logger(__name__)


class KeyStore:
    """API keys in the database. Every method may raise Unavailable."""

    def __init__(
        self,
        database: Database,
        *,
        cache_ttl: timedelta = CACHE_TTL,
        clock: Callable[[], datetime] = now,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cache_ttl = cache_ttl
        self._clock = clock
        self._timer = timer
        # SHA-256 of a whole key that was let in, to whom it is and until when (by the timer) that holds.
        self._cache: LRUCache[bytes, tuple[Principal, float]] = LRUCache(CACHE_ENTRIES)
        self._lookups = SharedLookups(self._look_up)

    async def issue(
        self, tenant: str | None, *, role: Role, name: str, expires_at: datetime | None = None
    ) -> IssuedKey:
        """A new key. An administrator's belongs to no tenant, every other one to one.

        Raises NotFound for the tenant, FailedPrecondition where it is not active, and InvalidRequest.
        """
        _check(tenant, role, name)
        created_at = self._clock()
        if expires_at is not None and expires_at <= created_at:
            raise InvalidRequest.of("expires_at", "must be in the future")
        async with self._database.write() as session:
            if tenant is not None:
                owner = await session.get(TenantRow, tenant, with_for_update={"read": True})
                if owner is None:
                    raise NotFound.of("tenant", tenant)
                _check_active(tenant, owner.state)
            return _add(session, tenant, role=role, name=name, created_at=created_at, expires_at=expires_at)

    async def issue_first(self, tenant: str, *, name: str = FIRST_KEY_NAME) -> IssuedKey | None:
        """Makes a tenant that is being set up active and issues its first key (role owner), both or neither.

        None where it is active already: of calls at the same time one gets the key.
        Raises FailedPrecondition where it is gone, or on its way.
        """
        async with self._database.write() as session:
            row = await session.get(TenantRow, tenant, with_for_update=True)
            if row is None or row.state == TenantState.DELETING:
                raise FailedPrecondition(f"tenant {tenant!r} was deleted while it was set up")
            if row.state == TenantState.ACTIVE:
                return None
            row.state = TenantState.ACTIVE
            return _add(session, tenant, role=Role.OWNER, name=name, created_at=self._clock(), expires_at=None)

    async def import_key(self, key: str, *, tenant: str | None = None, role: Role, name: str) -> ApiKey:
        """Stores a key that was made elsewhere; where it is stored already, it stays as it is (revoked, say).

        Raises InvalidRequest for a text that is no key, AlreadyExists where its id has another secret, and
        NotFound for the tenant.
        """
        _check(tenant, role, name)
        parsed = names.parse_api_key(key)
        if parsed is None:
            raise InvalidRequest.of("key", "is no API key: mlops_, 12 of a-z and 0-9, _, 43 of base64url")
        identity, secret = parsed
        async with self._database.write() as session:
            if tenant is not None and await session.get(TenantRow, tenant, with_for_update={"read": True}) is None:
                raise NotFound.of("tenant", tenant)
            row = await session.get(KeyRow, identity)
            if row is None:
                row = _row_of(identity, secret, tenant, role=role, name=name, created_at=self._clock(), expires_at=None)
                try:
                    async with session.begin_nested():
                        session.add(row)
                except IntegrityError:  # another gateway was faster
                    row = await session.get_one(KeyRow, identity)
            if not hmac.compare_digest(row.secret_sha256, _digest(secret)):
                raise AlreadyExists(f"an API key with the id {identity!r} exists, with another secret")
            return _key_of(row)

    async def authenticate(self, key: str) -> Principal:
        """Whose key this is.

        Raises Unauthenticated for a text that is no key and for a key that is unknown, revoked or expired, in
        the same words; FailedPrecondition for a key of a tenant that is not active.
        """
        cached = self._cache.get(_fingerprint(key))
        if cached is not None and self._timer() < cached[1]:
            return cached[0]
        return await self._lookups.get(key)

    async def _look_up(self, key: str) -> Principal:
        begun = self._timer()
        parsed = names.parse_api_key(key)
        if parsed is None:
            raise _unauthenticated()
        identity, secret = parsed
        query = select(KeyRow, TenantRow.state).outerjoin(TenantRow, KeyRow.tenant == TenantRow.slug)
        async with self._database.read() as session:
            found = (await session.execute(query.where(KeyRow.id == identity))).one_or_none()
        at = self._clock()
        # An unknown id takes as long as a known one.
        matches = hmac.compare_digest(found[0].secret_sha256 if found else "0" * 64, _digest(secret))
        if found is None or not matches or not _is_live(found[0], at):
            raise _unauthenticated()
        row, state = found[0], found[1]
        if row.tenant is not None:
            _check_active(row.tenant, state)
        principal = Principal(key_id=row.id, name=row.name, role=Role(row.role), tenant=row.tenant)
        ttl = self._cache_ttl if row.expires_at is None else min(self._cache_ttl, row.expires_at - at)
        self._cache[_fingerprint(key)] = (principal, begun + ttl.total_seconds())
        if row.last_used_at is None or row.last_used_at <= at - USE_INTERVAL:
            await self._used(row, at)
        return principal

    async def _used(self, row: KeyRow, at: datetime) -> None:
        """Notes that a key was used. The call that used it goes on without."""
        stale = or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at <= at - USE_INTERVAL)
        try:
            async with self._database.write() as session:
                await session.execute(update(KeyRow).where(KeyRow.id == row.id, stale).values(last_used_at=at))
        except Unavailable as exc:
            _log.warning("api_key_use_not_recorded", tenant=row.tenant, key_id=row.id, error=str(exc))

    async def list(
        self, tenant: str | None, *, include_inactive: bool = False, page_size: int = 0, page_token: str = ""
    ) -> tuple[tuple[ApiKey, ...], str]:
        """One page of a tenant's keys (None: the administrators'), newest first, and the token of the next.

        Without `include_inactive`, revoked and expired ones are left out. Raises NotFound, InvalidRequest.
        """
        limit = items_of(page_size)
        listing = Listing.of("api_keys", tenant=tenant, include_inactive=include_inactive)
        place = listing.place_at(page_token)
        query = select(KeyRow).where(KeyRow.tenant.is_(None) if tenant is None else KeyRow.tenant == tenant)
        if not include_inactive:
            live = or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > self._clock())
            query = query.where(KeyRow.revoked_at.is_(None), live)
        if place is not None:
            older = (KeyRow.created_at == place[0]) & (KeyRow.id < place[1])
            query = query.where((KeyRow.created_at < place[0]) | older)
        query = query.order_by(KeyRow.created_at.desc(), KeyRow.id.desc()).limit(limit + 1)
        async with self._database.read() as session:
            if tenant is not None and await session.get(TenantRow, tenant) is None:
                raise NotFound.of("tenant", tenant)
            found = tuple(_key_of(row) for row in await session.scalars(query))
        page = found[:limit]
        return page, listing.token_at(page[-1].created_at, page[-1].id) if len(found) > limit else ""

    async def revoke(self, key_id: str, *, tenant: str | None) -> ApiKey:
        """Ends a key, for good; calls that use it fail within two seconds. Again changes nothing.

        tenant: whose keys may be revoked; None, for an administrator: everyone's.
        Raises NotFound where there is no such key within that scope.
        """
        async with self._database.write() as session:
            row = await session.get(KeyRow, key_id, with_for_update=True)
            if row is None or (tenant is not None and row.tenant != tenant):
                raise NotFound.of("api_key", key_id)
            if row.revoked_at is None:
                row.revoked_at = self._clock()
            revoked = _key_of(row)
        self._cache.clear()
        self._lookups.forget_all()
        return revoked


def _check(tenant: str | None, role: Role, name: str) -> None:
    if (tenant is None) != (role is Role.ADMINISTRATOR):
        raise InvalidRequest.of("role", "an administrator's key belongs to no tenant, every other key to one")
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise InvalidRequest.of("name", f"must have 1-{MAX_NAME_CHARS} characters")


def _check_active(tenant: str, state: str) -> None:
    if state == TenantState.PROVISIONING:
        raise FailedPrecondition(f"tenant {tenant!r} is still being set up; try again once it is active")
    if state == TenantState.DELETING:
        raise FailedPrecondition(f"tenant {tenant!r} is being deleted")


def _unauthenticated() -> Unauthenticated:
    return Unauthenticated("the API key is not valid: it is unknown, revoked or expired")


def _is_live(row: KeyRow, at: datetime) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > at)


def _fingerprint(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _add(
    session: AsyncSession,
    tenant: str | None,
    *,
    role: Role,
    name: str,
    created_at: datetime,
    expires_at: datetime | None,
) -> IssuedKey:
    identity, secret, key = names.new_api_key()
    row = _row_of(identity, secret, tenant, role=role, name=name, created_at=created_at, expires_at=expires_at)
    session.add(row)
    return IssuedKey(key=_key_of(row), secret=key)


def _row_of(
    identity: str,
    secret: str,
    tenant: str | None,
    *,
    role: Role,
    name: str,
    created_at: datetime,
    expires_at: datetime | None,
) -> KeyRow:
    return KeyRow(
        id=identity,
        tenant=tenant,
        role=role,
        name=name,
        secret_sha256=_digest(secret),
        created_at=created_at,
        expires_at=expires_at,
    )


def _key_of(row: KeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        role=Role(row.role),
        name=row.name,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
