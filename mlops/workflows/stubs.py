"""The activities as workflows see them: names, arguments and results, and none of their code.

The implementations in `mlops.activities` subclass these protocols, so that the type checker holds the
signatures together.
"""

from __future__ import annotations

from typing import Protocol

from temporalio import activity

from mlops.jobs.dataset import IngestedFiles, IngestJob, IngestTask, Source
from mlops.jobs.inference import BatchOrder, BatchOutcome, ShardDone, ShardOrder, ShardsPlanned
from mlops.jobs.report import Evaluated, StepResult
from mlops.jobs.tracking import EndedRun, LoggedModel, RegisteredVersion, RegisterOrder, StartedRun
from mlops.jobs.training import StepOrder


class CpuActivities(Protocol):
    """What runs on the `cpu` queue: each one child process on one host."""

    @activity.defn
    async def ingest_dataset(self, task: IngestTask) -> IngestedFiles:
        """Reads stored bytes into the canonical Arrow file."""
        ...

    @activity.defn
    async def fit_step(self, order: StepOrder) -> StepResult:
        """Fits and scores one fold, or the final model."""
        ...

    @activity.defn
    async def evaluate(self, order: StepOrder) -> Evaluated:
        """Makes the report out of what the fits left in storage."""
        ...

    @activity.defn
    async def export_model(self, order: StepOrder) -> None:
        """Exports the final model to ONNX where that pays."""
        ...


class IoActivities(Protocol):
    """What runs on the `io` queue: asyncio over storage and MLflow."""

    @activity.defn
    async def copy_source(self, job: IngestJob) -> Source:
        """Copies a URI into storage and hashes it."""
        ...

    @activity.defn
    async def start_run(self, order: StepOrder) -> StartedRun:
        """Finds or creates the job's MLflow run."""
        ...

    @activity.defn
    async def log_run(self, order: StepOrder) -> LoggedModel:
        """Logs metrics, plots, dataset and model to the run."""
        ...

    @activity.defn
    async def register_version(self, order: RegisterOrder) -> RegisteredVersion:
        """Registers the logged model under the name asked for."""
        ...

    @activity.defn
    async def end_run(self, ended: EndedRun) -> None:
        """Ends the run; where the job did not succeed, removes the version that it registered."""
        ...


class BatchCpuActivities(Protocol):
    """What of a batch job runs on the `cpu` queue."""

    @activity.defn
    async def plan_shards(self, order: BatchOrder) -> ShardsPlanned:
        """Looks at a batch job's input, holds it against the model, and cuts it into shards."""
        ...

    @activity.defn
    async def predict_shard(self, order: ShardOrder) -> ShardDone:
        """Predicts one shard."""
        ...

    @activity.defn
    async def summarise_batch(self, order: BatchOrder) -> None:
        """Makes the report out of what the shards left in storage."""
        ...


class BatchIoActivities(Protocol):
    """What of a batch job runs on the `io` queue."""

    @activity.defn
    async def copy_input(self, order: BatchOrder) -> None:
        """Copies a batch job's input from its URI into storage."""
        ...

    @activity.defn
    async def commit_batch(self, order: BatchOrder) -> BatchOutcome:
        """Writes the manifest, which makes the result visible."""
        ...
