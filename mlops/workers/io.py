"""The IO worker: workflows, and activities over storage and MLflow. `python -m mlops.workers.io`"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from mlops import __version__, names
from mlops.activities.batch_io import BatchIoWork
from mlops.activities.io import IoWork
from mlops.activities.io_host import IoHost
from mlops.logs import configure_logs
from mlops.settings import IoWorkerSettings
from mlops.storage.objects import ObjectStore
from mlops.storage.sources import SourceRoots
from mlops.tracking.mlflow import MlflowTracking
from mlops.workers.sandbox import SANDBOX, WORKFLOWS
from mlops.workers.signals import stop_event
from mlops.workers.tenancy import TenantWorkers, connect

HEARTBEAT_THROTTLE = timedelta(seconds=1)


async def run(settings: IoWorkerSettings) -> None:
    """Serves every tenant until SIGTERM or SIGINT."""
    configure_logs(settings.log_format, settings.log_level)
    stop = stop_event()
    tracking = MlflowTracking(settings.mlflow_url, settings.secret_key.get_secret_value())
    host = IoHost(
        store=ObjectStore.open(settings.storage_url, settings.storage_options),
        sources=SourceRoots(settings.source_roots, settings.source_options),
        tracking=tracking,
    )

    def build(tenant: str, client: Client) -> Worker:
        work, batch = IoWork(host, tenant=tenant), BatchIoWork(host, tenant=tenant)
        return Worker(
            client,
            task_queue=names.IO_QUEUE,
            workflows=WORKFLOWS,
            activities=[
                work.copy_source,
                work.start_run,
                work.log_run,
                work.register_version,
                work.end_run,
                batch.copy_input,
                batch.commit_batch,
            ],
            workflow_runner=SANDBOX,
            build_id=__version__,
            max_cached_workflows=100,
            # A cancellation reaches an activity with the answer to its next heartbeat.
            max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            max_concurrent_activities=20,
            workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=4, initial=1),
            activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=4, initial=1),
            graceful_shutdown_timeout=settings.shutdown_grace,
        )

    async with tracking:
        workers = TenantWorkers(client=await connect(settings.temporal_address), build=build, poll=settings.tenant_poll)
        await workers.run(stop)


if __name__ == "__main__":
    asyncio.run(run(IoWorkerSettings()))
