"""What the platform adds to a job that does nothing: through the gateway, beside Temporal's own client.

One Temporal server, one worker, one workflow, one input, and both ways by turns, so that whatever else this machine
does hits both.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from benchmarks.report import report
from mlops import errors, names
from mlops.client import AsyncClient
from mlops.gateway.scheduler.connection import open_scheduler
from mlops.jobs.dataset import Column, ColumnKind, DataFormat, Dataset, DatasetProfile, ValueCount
from mlops.jobs.estimator import EstimatorSpec
from mlops.jobs.report import TrainingOutcome
from mlops.jobs.training import TrainingJob, TrainingSpec, Validation
from mlops.local.process import Supervised
from mlops.local.temporal_server import temporal_command, wait_ready
from mlops.storage.objects import ObjectStore
from mlops.tenants.database import Database
from mlops.tenants.datasets import DatasetStore
from mlops.tenants.keys import KeyStore
from mlops.tenants.migrations import migrate
from mlops.tenants.store import TenantStore
from mlops.tenants.tenant import NewTenant

TENANT = "bench"
FEATURES = 20
WARM_UP = 30
SINGLE_JOBS = 500
IN_FLIGHT = 16
ROUND_JOBS = 200
ROUNDS = 5
READY_SECONDS = 120.0
JOB_SECONDS = 60.0

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Ways:
    """One no-op job, from the request to its result, in both ways."""

    gateway: Run
    temporal: Run


async def main() -> None:
    """Measures both ways by turns, and prints."""
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        async with platform(Path(directory)) as ways:
            await asyncio.gather(*(in_flight(run, WARM_UP) for run in (ways.gateway, ways.temporal)))
            ours, theirs = await latencies(ways)
            our_rates, their_rates = await throughputs(ways)
    p50 = [quantile(seconds, 0.5) * 1000 for seconds in (ours, theirs)]
    p99 = [quantile(seconds, 0.99) * 1000 for seconds in (ours, theirs)]
    rates = [statistics.median(found) for found in (our_rates, their_rates)]
    report(
        "No-op jobs: through the gateway, beside Temporal's own client",
        columns=("", "mlops", "Temporal", "ratio"),
        rows=(
            ("one job, p50 (ms)", *p50, p50[0] / p50[1]),
            ("one job, p99 (ms)", *p99, p99[0] / p99[1]),
            (f"{IN_FLIGHT} in flight (jobs/s)", *rates, rates[0] / rates[1]),
        ),
        figures={
            "latency_p50_ratio": p50[0] / p50[1],
            "latency_p99_ratio": p99[0] / p99[1],
            "throughput_ratio": rates[0] / rates[1],
        },
        notes=(
            f"{SINGLE_JOBS} single jobs each, by turns; then {ROUNDS} rounds of {ROUND_JOBS} jobs each, by turns: medians.",
            (
                "mlops: AsyncClient.submit and wait: key, quota, dataset, the plan resolved and stored, the job indexed; a watch"
                " stream to its end, with the whole job as its last event. Temporal: start_workflow and result."
            ),
            f"Load of the machine ({os.cpu_count()} cores) before the run: {before:.2f}.",
        ),
    )


async def latencies(ways: Ways) -> tuple[list[float], list[float]]:
    """Seconds of single jobs, in both ways, one by one."""
    ours: list[float] = []
    theirs: list[float] = []
    gc.collect()
    for index in range(SINGLE_JOBS):
        # Each goes first as often as the other.
        pair = ((ways.gateway, ours), (ways.temporal, theirs))
        for run, seconds in pair if index % 2 else reversed(pair):
            started = time.perf_counter()
            await run()
            seconds.append(time.perf_counter() - started)
    return ours, theirs


async def throughputs(ways: Ways) -> tuple[list[float], list[float]]:
    """Jobs a second, of each round of both ways."""
    ours: list[float] = []
    theirs: list[float] = []
    for index in range(ROUNDS):
        pair = ((ways.gateway, ours), (ways.temporal, theirs))
        for run, rates in pair if index % 2 else reversed(pair):
            gc.collect()
            rates.append(await in_flight(run, ROUND_JOBS))
    return ours, theirs


async def in_flight(run: Run, jobs: int) -> float:
    """Jobs a second with so many under way at any moment."""
    left = iter(range(jobs))

    async def one_after_another() -> None:
        for _ in left:
            await run()

    started = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
    return jobs / (time.perf_counter() - started)


def quantile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)]


@asynccontextmanager
async def platform(directory: Path) -> AsyncIterator[Ways]:
    """Temporal on an SQLite file, the gateway and the worker, each in a process of its own."""
    temporal, gateway = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    database_url = f"sqlite+aiosqlite:///{directory / 'gateway.sqlite'}"
    storage_url = (directory / "storage").as_uri()
    secret = "not a secret: nothing here talks to MLflow"  # noqa: S105
    settings = {
        "MLOPS_TEMPORAL_ADDRESS": temporal,
        "MLOPS_STORAGE_URL": storage_url,
        "MLOPS_LISTEN": gateway,
        "MLOPS_DATABASE_URL": database_url,
        "MLOPS_SECRET_KEY": secret,
        "MLOPS_MLFLOW_ADMIN_PASSWORD": secret,
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_")}
    commands = {
        "temporal": temporal_command(
            port=int(temporal.rpartition(":")[2]), ui_port=None, database=directory / "temporal.sqlite"
        ),
        "gateway": [sys.executable, "-m", "mlops.gateway"],
        "worker": [sys.executable, "-m", "benchmarks.noop_worker", temporal, TENANT],
    }
    parts = {
        name: Supervised(
            name=name,
            command=command,
            environment={**environment, **settings},
            log_file=directory / f"{name}.log",
            started=lambda name, pid: None,
        )
        for name, command in commands.items()
    }
    try:
        await parts["temporal"].start()
        await parts["temporal"].ready(wait_ready(temporal, seconds=READY_SECONDS), READY_SECONDS)
        key, dataset = await furnish(temporal, storage_url, database_url)
        await parts["worker"].start()
        await parts["gateway"].start()
        async with AsyncClient(gateway, key) as client:
            await parts["gateway"].ready(answering(client), READY_SECONDS)
            bare = await Client.connect(
                temporal, namespace=names.namespace(TENANT), data_converter=pydantic_data_converter
            )
            yield both_ways(client, bare, dataset)
    finally:
        for name in ("worker", "gateway", "temporal"):
            await parts[name].stop(10.0)


async def furnish(temporal: str, storage_url: str, database_url: str) -> tuple[str, Dataset]:
    """The tenant with its namespace, its key, and a dataset: what CreateTenant and an upload would leave."""
    objects = ObjectStore.open(storage_url, {})
    scheduler = await open_scheduler(temporal, objects, retention=timedelta(days=1))
    await migrate(database_url)
    async with Database.open(database_url) as database:
        await scheduler.provider.ensure(await TenantStore(database).create(NewTenant(slug=TENANT)))
        issued = await KeyStore(database).issue_first(TENANT)
        assert issued is not None
        dataset = await DatasetStore(database).put(TENANT, a_dataset())
    objects.close()
    return issued.secret, dataset


async def answering(client: AsyncClient) -> None:
    """Returns once the gateway answers."""
    while True:
        try:
            await client.jobs.page(page_size=1)
            return
        except errors.Unavailable:
            await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def both_ways(client: AsyncClient, bare: Client, dataset: Dataset) -> Ways:
    spec = TrainingSpec(
        dataset=dataset.id,
        target="target",
        estimator=EstimatorSpec(path="sklearn.ensemble.RandomForestClassifier"),
        validation=Validation(folds=5),
    )
    numbers = count()

    async def through_gateway() -> None:
        handle = await client.submit(spec, f"ours-{next(numbers)}")
        result = await handle.wait(timeout=JOB_SECONDS)
        assert result.run_id == "run"

    async def through_temporal() -> None:
        job_id = f"theirs-{next(numbers)}"
        job = TrainingJob(
            tenant=TENANT,
            job_id=job_id,
            owner="owner",
            plan_sha256="0" * 64,
            folds=5,
            time_limit=spec.time_limit,
            max_attempts=spec.max_attempts,
            model_name=None,
        )
        handle = await bare.start_workflow(
            names.TRAINING_WORKFLOW, job, id=job_id, task_queue=names.IO_QUEUE, result_type=TrainingOutcome
        )
        outcome = await asyncio.wait_for(handle.result(), JOB_SECONDS)
        assert outcome.run_id == "run"

    return Ways(gateway=through_gateway, temporal=through_temporal)


def a_dataset() -> Dataset:
    """A table as it is registered: numbers, and a target of two classes."""
    rows = 100_000
    columns = [
        Column(
            name=f"feature_{index}",
            kind=ColumnKind.NUMERIC,
            arrow_type="double",
            distinct_count=rows,
            minimum=-4.0,
            maximum=4.0,
            mean=0.0,
            standard_deviation=1.0,
        )
        for index in range(FEATURES)
    ]
    target = Column(
        name="target",
        kind=ColumnKind.NUMERIC,
        arrow_type="int64",
        distinct_count=2,
        top_values=(ValueCount(value="0", count=rows // 2), ValueCount(value="1", count=rows // 2)),
    )
    sha256 = "0" * 64
    return Dataset(
        id=names.dataset_id(sha256, "{}"),
        name="table",
        sha256=sha256,
        size_bytes=rows * FEATURES * 8,
        profile=DatasetProfile(
            format=DataFormat.PARQUET, rows=rows, columns=(*columns, target), stored_bytes=rows * FEATURES * 8
        ),
        owner="owner",
        created_at=datetime.now(UTC),
    )


if __name__ == "__main__":
    asyncio.run(main())
