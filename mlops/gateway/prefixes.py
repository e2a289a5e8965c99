"""A tenant's place in the object store."""

from __future__ import annotations

from mlops import names
from mlops.storage.objects import ObjectStore
from mlops.tenants.tenant import Tenant


class PrefixProvider:
    """Everything stored of a tenant stands below one prefix, which comes with the first object."""

    name = "storage"

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def ensure(self, tenant: Tenant) -> None:
        """Nothing is to be made: a prefix is not a thing."""

    async def remove(self, tenant: str) -> None:
        """Removes everything below the prefix."""
        await self._objects.delete_prefix(names.tenant_prefix(tenant))
