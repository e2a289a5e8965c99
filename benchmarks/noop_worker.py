"""A worker that does nothing: `python -m benchmarks.noop_worker ADDRESS TENANT`, until SIGTERM.

It is set up as the IO worker is, but its training workflow returns at once.
"""

from __future__ import annotations

import asyncio
import sys

from temporalio import workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from mlops import names
from mlops.jobs.report import TrainingOutcome
from mlops.jobs.training import TrainingJob
from mlops.workers.sandbox import SANDBOX
from mlops.workers.signals import stop_event


@workflow.defn(name=names.TRAINING_WORKFLOW)
class NoopTraining:
    """A training job that is over at once."""

    @workflow.run
    async def run(self, job: TrainingJob) -> TrainingOutcome:
        return TrainingOutcome(run_id="run", experiment_id="1", model_uri="models:/m-none")


async def serve(address: str, tenant: str) -> None:
    stop = stop_event()
    client = await Client.connect(address, namespace=names.namespace(tenant), data_converter=pydantic_data_converter)
    async with Worker(
        client,
        task_queue=names.IO_QUEUE,
        workflows=[NoopTraining],
        workflow_runner=SANDBOX,
        build_id="noop",
        max_cached_workflows=100,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=4, initial=1),
    ):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2]))
