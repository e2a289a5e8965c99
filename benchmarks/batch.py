"""Batch inference from Parquet to Parquet against `joblib.Parallel` over the same shards, with the same model and cores.

Ours is everything between submit and a committed result: the file copied in and hashed, the model's columns checked,
every shard read, predicted, counted for drift, written, stored and committed by its manifest. Theirs is one process a
core that reads a shard's row groups, predicts, and writes a Parquet file: no checks, no retries, nothing committed.
Peak memory is of all processes that work for ours (the CPU and the IO worker with their children), beyond what they
held before.

    python -m benchmarks.batch [ROWS]
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier

from benchmarks.report import report
from mlops.client import AsyncClient
from mlops.local.stack import Stack
from mlops.logs import configure_logs
from mlops.settings import machine_cores

ROWS, SMALL_ROWS, COLUMNS = 5_000_000, 1_000_000, 20
ROW_GROUP = 100_000
TRAIN_ROWS = 10_000
# As scikit-learn makes it: 100 trees, grown to the end.
ESTIMATOR = RandomForestClassifier(random_state=0)
MODEL = "forest"
JOB_SECONDS = 1200.0
SAMPLE_SECONDS = 0.1

PEER = """
import json, sys, time
from pathlib import Path
import joblib, pyarrow as pa, pyarrow.parquet as pq
source, model, out, cores, shards = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), json.loads(sys.argv[5])

def predict(index, groups):
    estimator = joblib.load(model)
    estimator.n_jobs = 1
    frame = pq.ParquetFile(source).read_row_groups(groups, use_threads=False).to_pandas()
    table = pa.table({"prediction": estimator.predict(frame)})
    pq.write_table(table, out / f"part-{index:05d}.parquet")
    return len(frame)

with joblib.Parallel(n_jobs=cores) as parallel:
    # The workers of joblib are started before the clock, as ours are.
    parallel(joblib.delayed(time.sleep)(0.2) for _ in range(cores))
    begun = time.perf_counter()
    rows = sum(parallel(joblib.delayed(predict)(index, groups) for index, groups in enumerate(shards)))
print(json.dumps({"seconds": time.perf_counter() - begun, "rows": rows}))
"""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """One batch job."""

    seconds: float
    peak_bytes: int
    shards: int


def write(path: Path, rows: int) -> None:
    """A file of ROW_GROUP rows a group, 20 numbers a row, made group by group."""
    random = np.random.default_rng(rows)
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, ROW_GROUP):
        size = min(ROW_GROUP, rows - start)
        table = pa.table({f"x{index}": random.normal(size=size) for index in range(COLUMNS)})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def training_table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{index}": random.normal(size=TRAIN_ROWS) for index in range(COLUMNS)})
    return frame.assign(target=(frame.x0 + frame.x1 * frame.x2 + random.normal(size=TRAIN_ROWS) > 0).astype(int))


async def ours(client: AsyncClient, stack: Stack, uri: str) -> Ours:
    """One job, submit to committed."""
    watcher = asyncio.create_task(
        _peak([pid for name in ("worker-cpu", "worker-io") if (pid := stack.parts[name].pid)])
    )
    begun = time.perf_counter()
    handle = await client.predict_batch(MODEL, uri)
    async with asyncio.timeout(JOB_SECONDS):
        result = await handle.wait()
    seconds = time.perf_counter() - begun
    watcher.cancel()
    return Ours(seconds=seconds, peak_bytes=await _ended(watcher), shards=len(result.report.files))


_peaks: dict[asyncio.Task[None], int] = {}


async def _peak(pids: list[int]) -> None:
    """Notes the most that the processes and their children held at once, of their own."""
    task = asyncio.current_task()
    assert task is not None
    before = _held(pids)
    _peaks[task] = 0
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        _peaks[task] = max(_peaks[task], _held(pids) - before)


async def _ended(watcher: asyncio.Task[None]) -> int:
    await asyncio.wait([watcher])
    return _peaks[watcher]


def _held(pids: list[int]) -> int:
    held = 0
    for pid in pids:
        try:
            processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for process in processes:
            try:
                held += process.memory_full_info().uss
            except psutil.Error:
                continue
    return held


async def theirs(data: Path, model: Path, out: Path, shards: list[list[int]]) -> float:
    """Seconds of joblib over the same shards, in a process of its own."""
    out.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PEER, str(data), str(model), str(out), str(machine_cores()), json.dumps(shards),
        stdout=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(JOB_SECONDS):
        output, _ = await process.communicate()
    seconds: float = json.loads(output)["seconds"]
    return seconds


def row_groups(rows: int, shards: int) -> list[list[int]]:
    """The file's row groups, cut into as many shards as ours were."""
    groups = np.arange(-(-rows // ROW_GROUP))
    return [[int(group) for group in part] for part in np.array_split(groups, shards)]


async def run(rows: int) -> None:
    """Runs the embedded stack, and both on it."""
    configure_logs("console", "WARNING")
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        directory = Path(name)
        large, small = directory / "large.parquet", directory / "small.parquet"
        write(large, rows)
        write(small, min(SMALL_ROWS, rows))
        frame = training_table()
        model = directory / "model.joblib"
        joblib.dump(clone(ESTIMATOR).fit(frame.drop(columns="target"), frame["target"]), model)
        async with (
            Stack(directory=directory / "stack", source_roots=(directory.as_uri(),)) as stack,
            AsyncClient(stack.address, stack.config.tenant_key) as client,
        ):
            dataset = await client.datasets.upload(frame, name="training")
            await (await client.train(ESTIMATOR, dataset, target="target", name=MODEL)).wait()
            # Once beforehand, so that the model is loaded in both measurements, as it is in between two jobs.
            await ours(client, stack, small.as_uri())
            little = await ours(client, stack, small.as_uri())
            whole = await ours(client, stack, large.as_uri())
            peer = await theirs(large, model, directory / "theirs", row_groups(rows, whole.shards))
    report(
        f"Batch inference, {rows:,} x {COLUMNS}, Parquet to Parquet, {machine_cores()} cores",
        columns=("", "seconds", "rows/s", "peak memory"),
        rows=[
            (f"mlops, {whole.shards} shards", whole.seconds, rows / whole.seconds, _mib(whole.peak_bytes)),
            ("joblib.Parallel, the same shards", peer, rows / peer, ""),
            (f"mlops, {SMALL_ROWS:,} rows", little.seconds, SMALL_ROWS / little.seconds, _mib(little.peak_bytes)),
        ],
        figures={
            "time_ratio": whole.seconds / peer,
            "memory_ratio_5m_1m": whole.peak_bytes / max(little.peak_bytes, 1),
        },
        notes=(
            f"Model: {ESTIMATOR}.",
            "mlops: from submit to a committed result, the copy of the file, checks and drift included.",
        ),
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:,.0f} MiB"


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
