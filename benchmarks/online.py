"""Single-row predictions by 1, 8 and 32 clients: through the gateway, against other servers with the same model.

Everything runs at once on the same cores, and is measured by turns, so that a noisy neighbour hits all. Ours is the
whole stack (gateway, serving host, and what else `mlops up` runs); MLflow, BentoML and Ray Serve have a worker a core.
BentoML and Ray Serve are installed into environments below .bench on the first run; one that does not install is
left out, and the notes say why.

    python -m benchmarks.online
"""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import online_peers
from benchmarks.online_peers import Peer, Skipped
from benchmarks.report import report
from mlops import names
from mlops.client import AsyncClient
from mlops.jobs.card import PredictMethod
from mlops.local.stack import Stack
from mlops.logs import configure_logs
from mlops.ml import modelfile
from mlops.settings import machine_cores
from mlops.v1 import models_pb2
from tests.fixtures.temporal import free_port

ROWS, COLUMNS = 20_000, 20
CLIENTS = (1, 8, 32)
ROUNDS = 3
SECONDS = 3.0
MODEL = "online"
PEERS: dict[str, Callable[[Path, pd.DataFrame, int], Peer]] = {
    "mlflow": online_peers.mlflow,
    "bentoml": online_peers.bentoml,
    "ray": online_peers.ray,
}


@dataclass(kw_only=True)
class Series:
    """What the rounds gave, put together."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds


def table() -> pd.DataFrame:
    """Two classes in 20 numeric columns."""
    features, target = make_classification(ROWS, COLUMNS, n_informative=10, random_state=0)
    frame = pd.DataFrame(features, columns=[f"x{index}" for index in range(COLUMNS)])
    return frame.assign(target=target)


async def trained(client: AsyncClient, data: pd.DataFrame, store: Path) -> Any:
    """Registers the model; returns the very model that serving loads."""
    dataset = await client.datasets.upload(data, name="online")
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    job = await client.train(estimator, dataset, target="target", name=MODEL, folds=2)
    await job.wait()
    row = data.drop(columns="target").head(1)
    await client.models.predict(MODEL, row, outputs=[PredictMethod.PREDICT])
    [file] = (store / "tenants").glob(f"*/models/*/{names.STEP_MODEL}")
    return modelfile.load(file)


def bare_ms(model: Any, row: pd.DataFrame) -> float:
    """The model's own `predict` of one row, in this process: the median of many."""
    taken = []
    for _ in range(2000):
        begun = time.perf_counter()
        model.predict(row)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000


async def measured(plan: dict[str, Any], clients: int) -> Series:
    """One slice of load from a process of its own."""
    given = json.dumps({**plan, "clients": clients, "seconds": SECONDS})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.online_load", given, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"the load on {plan['address']} failed"
    return Series(**json.loads(output))


def plan_of_ours(stack: Stack, row: pd.DataFrame) -> dict[str, Any]:
    columns = [
        models_pb2.FrameColumn(name=str(name), doubles=models_pb2.Doubles(values=values))
        for name, values in row.items()
    ]
    request = models_pb2.PredictRequest(model=MODEL, rows=models_pb2.Frame(columns=columns))
    return {
        "kind": "grpc",
        "address": stack.address,
        "path": "/mlops.v1.Models/Predict",
        "body": base64.b64encode(request.SerializeToString()).decode(),
        "metadata": [["authorization", f"Bearer {stack.config.tenant_key}"]],
    }


def plan_of(peer: Peer) -> dict[str, Any]:
    body = base64.b64encode(peer.body).decode()
    return {"kind": "http", "address": peer.address, "path": peer.path, "body": body}


async def started(directory: Path, row: pd.DataFrame, expected: np.ndarray, notes: list[str]) -> dict[str, Peer]:
    """The peers that can be had; of the others, the notes say why not."""
    peers: dict[str, Peer] = {}
    for name, start in PEERS.items():
        try:
            peer = await asyncio.to_thread(start, directory, row, free_port())
            peers[name] = peer
            await online_peers.answering(peer, expected, directory / f"{name}.log")
        except Skipped as reason:
            notes.append(f"{name} is left out: {reason}")
            if (peer_started := peers.pop(name, None)) is not None:
                peer_started.stop()
    return peers


async def by_turns(plans: dict[str, dict[str, Any]]) -> dict[tuple[str, int], Series]:
    found = {(name, clients): Series() for name in plans for clients in CLIENTS}
    for _ in range(ROUNDS):
        for clients in CLIENTS:
            for name, plan in plans.items():
                series = await measured(plan, clients)
                found[name, clients].latencies += series.latencies
                found[name, clients].seconds += series.seconds
    return found


def save_for_peers(model: Any, directory: Path) -> None:
    import mlflow.sklearn

    joblib.dump(model, directory / "model.joblib")
    mlflow.sklearn.save_model(model, str(directory / "mlflow-model"), pip_requirements=["scikit-learn"])


def show(found: dict[tuple[str, int], Series], engines: dict[str, int], bare: float, notes: list[str]) -> None:
    servers = list(dict.fromkeys(name for name, _ in found))
    rows = [
        [f"{name}, {clients} clients", series.quantile_ms(0.5), series.quantile_ms(0.99), series.per_second]
        for (name, clients), series in sorted(found.items(), key=lambda item: (item[0][1], servers.index(item[0][0])))
    ]
    figures = {"ours_over_bare_ms_c1": found["ours", 1].quantile_ms(0.5) - bare}
    for peer in servers[1:]:
        for clients in CLIENTS:
            mine, theirs = found["ours", clients], found[peer, clients]
            figures[f"{peer}_c{clients}_p50_ratio"] = mine.quantile_ms(0.5) / theirs.quantile_ms(0.5)
            figures[f"{peer}_c{clients}_p99_ratio"] = mine.quantile_ms(0.99) / theirs.quantile_ms(0.99)
            figures[f"{peer}_c{clients}_rps_ratio"] = mine.per_second / theirs.per_second
    report(
        "Single rows, online",
        columns=["", "p50 ms", "p99 ms", "requests/s"],
        rows=rows,
        figures=figures,
        notes=[f"the model's own predict of a row: {bare:.3f} ms", f"our engines: {engines}", *notes],
    )


async def main() -> None:
    configure_logs("console", "ERROR")
    data = table()
    row = data.drop(columns="target").head(1)
    notes = [f"{ROUNDS} rounds of {SECONDS:g} s each; everything on {machine_cores()} cores at once"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with (
            Stack(directory=directory / "stack") as stack,
            AsyncClient(stack.address, stack.config.tenant_key) as client,
        ):
            model = await trained(client, data, directory / "stack" / "storage")
            save_for_peers(model, directory)
            peers = await started(directory, row, model.predict(row), notes)
            try:
                plans = {"ours": plan_of_ours(stack, row), **{name: plan_of(peer) for name, peer in peers.items()}}
                found = await by_turns(plans)
            finally:
                for peer in peers.values():
                    await asyncio.to_thread(peer.stop)
            figures = await client.models.serving_figures(MODEL)
        show(found, figures.versions[0].engines, bare_ms(model, row), notes)


if __name__ == "__main__":
    asyncio.run(main())
