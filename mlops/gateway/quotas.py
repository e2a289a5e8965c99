"""What a tenant's jobs may use, and how many of them there may be."""

from __future__ import annotations

from mlops.gateway.backlog import Backlog
from mlops.gateway.ports import SchedulerPort
from mlops.jobs.limits import Limits
from mlops.tenants.store import TenantStore
from mlops.tenants.tenant import Quota


class Quotas:
    """The limits of every tenant's jobs. The machines are a limit too: what no host can fit is refused at submit."""

    def __init__(
        self,
        *,
        scheduler: SchedulerPort,
        tenants: TenantStore,
        largest_host_cpus: int,
        largest_host_memory_bytes: int,
    ) -> None:
        self._tenants = tenants
        self._backlog = Backlog(scheduler.active_jobs)
        self._host_cpus = largest_host_cpus
        self._host_memory_bytes = largest_host_memory_bytes

    async def of(self, tenant: str) -> Quota:
        """The tenant's quota, as it was within the last second."""
        return await self._tenants.quota(tenant)

    async def admit(self, tenant: str) -> None:
        """Lets one more job in. Raises QuotaExceeded where as many as the limit have not ended."""
        await self._backlog.admit(tenant, (await self.of(tenant)).max_active_jobs)

    def limits(self, quota: Quota) -> Limits:
        """The most that one step of one job may have."""
        tenants_cpus = quota.max_job_cpus <= self._host_cpus
        tenants_memory = quota.max_job_memory_bytes <= self._host_memory_bytes
        return Limits(
            max_cpus=min(quota.max_job_cpus, self._host_cpus),
            max_memory_bytes=min(quota.max_job_memory_bytes, self._host_memory_bytes),
            cpus_limit="max_job_cpus" if tenants_cpus else "largest_host_cpus",
            memory_limit="max_job_memory_bytes" if tenants_memory else "largest_host_memory_bytes",
        )
