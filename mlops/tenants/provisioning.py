"""Sets tenants up and takes them down, in every service that knows of them.

Each step is idempotent and the tenant's row says how far it came, so that after a crash the same call again
goes on where it stopped:

    create   row PROVISIONING → each provider in order → first key + ACTIVE, in one transaction
    delete   DELETING → each provider in reverse → row removed, with its keys and datasets
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from mlops import names
from mlops.errors import FailedPrecondition, InvalidRequest
from mlops.tenants.keys import KeyStore
from mlops.tenants.store import TenantStore
from mlops.tenants.tenant import IssuedKey, NewTenant, Quota, Tenant, TenantState

_log = structlog.get_logger(__name__)


class Provider(Protocol):
    """A service in which a tenant has a place of its own: Temporal, MLflow, storage."""

    @property
    def name(self) -> str:
        """What it is called in the log."""
        ...

    async def ensure(self, tenant: Tenant) -> None:
        """Makes the tenant's place what the tenant says; does nothing where it is so already."""
        ...

    async def remove(self, tenant: str) -> None:
        """Removes the tenant's place with everything in it; does nothing where there is none."""
        ...


class Provisioning:
    """Creates, changes and deletes tenants.

    Calls for one tenant run one after the other inside a process. Several gateways may create one tenant at
    once. A delete in one gateway while another still creates the same tenant ends that create with an error,
    and may leave an empty place in a provider, which the next create of that slug takes over.
    """

    def __init__(self, store: TenantStore, keys: KeyStore, providers: Sequence[Provider]) -> None:
        self._store = store
        self._keys = keys
        self._providers = tuple(providers)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def create(self, new: NewTenant) -> tuple[Tenant, IssuedKey | None]:
        """The tenant, active, and its first key where this call made it active.

        A key that was lost on its way to the caller is not shown again: an administrator issues another.
        Raises InvalidRequest, field `slug`; AlreadyExists for other settings; FailedPrecondition for a tenant
        that is being deleted; and what the providers raise.
        """
        _check_slug(new.slug)
        async with self._lock(new.slug):
            tenant = await self._store.create(new)
            if tenant.state is TenantState.DELETING:
                raise FailedPrecondition(f"tenant {new.slug!r} is being deleted; create it once it is gone")
            if tenant.state is TenantState.ACTIVE:
                return tenant, None
            await self._ensure(tenant)
            key = await self._keys.issue_first(tenant.slug)
            _log.info("tenant_created", tenant=tenant.slug)
            return await self._store.get(tenant.slug), key

    async def update(
        self,
        slug: str,
        *,
        display_name: str | None = None,
        quota: Quota | Mapping[str, int] | None = None,
        weight: float | None = None,
    ) -> Tenant:
        """Changes what is given. A weight is told to the providers, even the same one: a call that crashed
        between the row and the providers is repaired by its repetition.

        Raises as TenantStore.update and the providers do.
        """
        async with self._lock(slug):
            tenant = await self._store.update(slug, display_name=display_name, quota=quota, weight=weight)
            if weight is not None:
                await self._ensure(tenant)
            return tenant

    async def delete(self, slug: str) -> None:
        """Deletes the tenant with everything it holds. Raises NotFound, and what the providers raise."""
        async with self._lock(slug):
            await self._store.set_state(slug, TenantState.DELETING)
            for provider in reversed(self._providers):
                _log.info("tenant_removing", tenant=slug, provider=provider.name)
                await provider.remove(slug)
            await self._store.remove(slug)
            _log.info("tenant_deleted", tenant=slug)

    async def _ensure(self, tenant: Tenant) -> None:
        for provider in self._providers:
            _log.info("tenant_provisioning", tenant=tenant.slug, provider=provider.name)
            await provider.ensure(tenant)

    def _lock(self, slug: str) -> asyncio.Lock:
        return self._locks.setdefault(slug, asyncio.Lock())


def _check_slug(slug: str) -> None:
    if slug in names.RESERVED_TENANTS:
        raise InvalidRequest.of("slug", f"{slug!r} is reserved")
    if not names.TENANT.fullmatch(slug):
        raise InvalidRequest.of("slug", "must be 2-63 of a-z, 0-9 and inner hyphens")
