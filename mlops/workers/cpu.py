"""The CPU worker: owns the process pool, and decides which tenant gets the next core. `python -m mlops.workers.cpu`"""

from __future__ import annotations

import asyncio
import os
import shutil
from datetime import timedelta
from pathlib import Path

import psutil
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from mlops import __version__, names
from mlops.activities.batch_cpu import BatchCpuWork
from mlops.activities.cpu import CpuWork
from mlops.activities.host import CpuHost
from mlops.logs import configure_logs
from mlops.settings import CpuWorkerSettings
from mlops.storage.cache import HostCache
from mlops.storage.objects import ObjectStore
from mlops.workers.fair import FairShare
from mlops.workers.pool import ProcessPool
from mlops.workers.signals import stop_event
from mlops.workers.tenancy import TenantWorkers, connect

# A cancellation reaches an activity with the answer to its next heartbeat.
HEARTBEAT_THROTTLE = timedelta(milliseconds=300)


async def run(settings: CpuWorkerSettings) -> None:
    """Serves every tenant until SIGTERM or SIGINT."""
    configure_logs(settings.log_format, settings.log_level)
    stop = stop_event()
    work_dir = settings.scratch_dir / "work" / str(os.getpid())
    _sweep(work_dir.parent)
    cores = FairShare(settings.cores, settings.memory_bytes)
    async with ProcessPool(settings.cores, stop_grace=settings.stop_grace) as pool:
        host = CpuHost(
            store=ObjectStore.open(settings.storage_url, settings.storage_options),
            cache=HostCache(settings.scratch_dir / "cache", settings.cache_bytes),
            pool=pool,
            cores=cores,
            scratch=work_dir,
            memory_bytes=settings.memory_bytes,
        )

        def build(tenant: str, client: Client) -> Worker:
            work = CpuWork(host, tenant=tenant, client=client)
            batch = BatchCpuWork(host, tenant=tenant, client=client)
            return Worker(
                client,
                task_queue=names.CPU_QUEUE,
                activities=[
                    work.ingest_dataset,
                    work.fit_step,
                    work.evaluate,
                    work.export_model,
                    batch.plan_shards,
                    batch.predict_shard,
                    batch.summarise_batch,
                ],
                build_id=__version__,
                # Twice the cores: one task at work and one waiting for each, and the rest is left to other hosts.
                max_concurrent_activities=2 * settings.cores,
                max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
                activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=2, initial=1),
                graceful_shutdown_timeout=settings.shutdown_grace,
            )

        workers = TenantWorkers(
            client=await connect(settings.temporal_address),
            build=build,
            poll=settings.tenant_poll,
            seen=lambda tenant: cores.set_weight(tenant.slug, tenant.weight),
            gone=cores.remove,
        )
        await workers.run(stop)


def _sweep(directory: Path) -> None:
    """Removes what processes of this host that are gone were at: it is of no use to anyone."""
    for left in directory.glob("*"):
        if not (left.name.isdigit() and psutil.pid_exists(int(left.name))) or left.name == str(os.getpid()):
            shutil.rmtree(left, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(run(CpuWorkerSettings()))
