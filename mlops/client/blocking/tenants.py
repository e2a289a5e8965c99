"""The tenants of the platform, for synchronous programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlops.client.blocking.loop import LoopThread
from mlops.client.tenants import AsyncTenants, CreatedTenant, QuotaOptions
from mlops.tenants.tenant import Tenant


class Tenants:
    """`client.tenants`."""

    def __init__(self, loop: LoopThread, tenants: AsyncTenants) -> None:
        self._loop = loop
        self._tenants = tenants

    def create(
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
        return self._loop.run(
            self._tenants.create(slug, display_name=display_name, quota=quota, weight=weight, labels=labels)
        )

    def get(self, slug: str) -> Tenant:
        """The tenant. Raises NotFound."""
        return self._loop.run(self._tenants.get(slug))

    def list(self, *, page_size: int = 100) -> Iterator[Tenant]:
        """Every tenant, by slug."""
        yield from self._loop.iterate(self._tenants.list(page_size=page_size))

    def update(
        self,
        slug: str,
        *,
        display_name: str | None = None,
        quota: QuotaOptions | None = None,
        weight: float | None = None,
    ) -> Tenant:
        """Changes what is given and returns the tenant as it is now. Raises NotFound, InvalidRequest."""
        return self._loop.run(self._tenants.update(slug, display_name=display_name, quota=quota, weight=weight))

    def delete(self, slug: str, *, force: bool = False) -> None:
        """Deletes a tenant with all its jobs, datasets, models and keys; `force` ends its active jobs.

        Raises NotFound, and FailedPrecondition with active jobs and no `force`.
        """
        self._loop.run(self._tenants.delete(slug, force=force))
