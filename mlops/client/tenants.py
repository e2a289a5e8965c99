"""The tenants of the platform, for administrators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TypedDict

from mlops.client.connection import Connection
from mlops.client.paging import pages
from mlops.client.quantities import parse_bytes
from mlops.jobs.value import Value
from mlops.tenants.tenant import ApiKey, IssuedKey, Tenant
from mlops.v1 import tenants_pb2
from mlops.wire.convert import parse


class QuotaOptions(TypedDict, total=False):
    """The limits to set; those left out keep their value, or the platform's default. Sizes as bytes or "2GiB"."""

    max_active_jobs: int
    max_job_cpus: int
    max_job_memory_bytes: int | str
    max_dataset_bytes: int | str
    # Online predictions, each gateway counting for itself.
    max_concurrent_predictions: int
    max_predictions_per_second: int


class CreatedTenant(Value):
    """A tenant, and its first key where this call made it: an existing tenant's is not shown again."""

    tenant: Tenant
    key: IssuedKey | None = None


class AsyncTenants:
    """`client.tenants`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        slug: str,
        *,
        display_name: str = "",
        quota: QuotaOptions | None = None,
        weight: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> CreatedTenant:
        """Creates a tenant with everything it lives in, and its first key (role owner), shown this once.

        Sent again after a failure, it goes on where it stopped. Raises InvalidRequest, AlreadyExists.
        """
        request = tenants_pb2.CreateTenantRequest(
            slug=slug, display_name=display_name, quota=_quota(quota), weight=weight, labels=labels
        )
        response = await self._connection.call(self._connection.tenants.CreateTenant, request)
        key = IssuedKey(key=parse(response.key, ApiKey), secret=response.secret) if response.secret else None
        return CreatedTenant(tenant=parse(response.tenant, Tenant), key=key)

    async def get(self, slug: str) -> Tenant:
        """The tenant. Raises NotFound."""
        request = tenants_pb2.GetTenantRequest(slug=slug)
        return parse((await self._connection.call(self._connection.tenants.GetTenant, request)).tenant, Tenant)

    async def list(self, *, page_size: int = 100) -> AsyncIterator[Tenant]:
        """Every tenant, by slug."""

        async def fetch(token: str) -> tuple[Iterable[Tenant], str]:
            request = tenants_pb2.ListTenantsRequest(page_size=page_size, page_token=token)
            response = await self._connection.call(self._connection.tenants.ListTenants, request)
            return [parse(message, Tenant) for message in response.tenants], response.next_page_token

        async for tenant in pages(fetch):
            yield tenant

    async def update(
        self,
        slug: str,
        *,
        display_name: str | None = None,
        quota: QuotaOptions | None = None,
        weight: float | None = None,
    ) -> Tenant:
        """Changes what is given and returns the tenant as it is now. Raises NotFound, InvalidRequest."""
        request = tenants_pb2.UpdateTenantRequest(
            slug=slug, display_name=display_name, quota=_quota(quota), weight=weight
        )
        return parse((await self._connection.call(self._connection.tenants.UpdateTenant, request)).tenant, Tenant)

    async def delete(self, slug: str, *, force: bool = False) -> None:
        """Deletes a tenant with all its jobs, datasets, models and keys; `force` ends its active jobs.

        Raises NotFound, and FailedPrecondition with active jobs and no `force`.
        """
        request = tenants_pb2.DeleteTenantRequest(slug=slug, force=force)
        await self._connection.remove(self._connection.tenants.DeleteTenant, request)


def _quota(options: QuotaOptions | None) -> tenants_pb2.Quota | None:
    if not options:
        return None
    memory, dataset = options.get("max_job_memory_bytes"), options.get("max_dataset_bytes")
    return tenants_pb2.Quota(
        max_active_jobs=options.get("max_active_jobs"),
        max_job_cpus=options.get("max_job_cpus"),
        max_job_memory_bytes=None if memory is None else parse_bytes(memory, field="quota.max_job_memory_bytes"),
        max_dataset_bytes=None if dataset is None else parse_bytes(dataset, field="quota.max_dataset_bytes"),
        max_concurrent_predictions=options.get("max_concurrent_predictions"),
        max_predictions_per_second=options.get("max_predictions_per_second"),
    )
