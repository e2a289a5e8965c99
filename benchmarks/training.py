"""A whole cross-validated training job against scikit-learn's own `cross_validate` on the same cores.

Ours is everything between submit and a registered model: five folds and the final fit on all rows, out-of-fold
predictions, report and plots, MLflow run, model file and version. Theirs is `cross_validate(cv=5, n_jobs=cores)` with
the same scorers: five fits and their scores, with the data in memory, in a process of its own. Handing over the data
is no part of either.

    python -m benchmarks.training
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from benchmarks.report import report
from mlops.client import AsyncClient
from mlops.jobs.job import StepState
from mlops.local.stack import Stack
from mlops.logs import configure_logs
from mlops.settings import machine_cores

ROWS, COLUMNS, FOLDS, ROUNDS = 100_000, 20, 5, 1
SCORING = ("accuracy", "roc_auc")
ESTIMATORS: dict[str, Any] = {
    # As scikit-learn makes them: 100 trees each.
    "random_forest": RandomForestClassifier(random_state=0),
    "gradient_boosting": GradientBoostingClassifier(random_state=0),
}
JOB_SECONDS = 900.0

PEER = """
import json, sys, time
import pandas as pd
from sklearn.model_selection import cross_validate
from benchmarks.training import ESTIMATORS, FOLDS, SCORING
frame = pd.read_parquet(sys.argv[1])
features, target = frame.drop(columns="target"), frame["target"]
cores = int(sys.argv[3])
# The workers of joblib are started before the clock, as ours are.
cross_validate(ESTIMATORS[sys.argv[2]].set_params(n_estimators=1), features[:500], target[:500], cv=2, n_jobs=cores)
estimator = ESTIMATORS[sys.argv[2]].set_params(n_estimators=int(sys.argv[4]))
begun = time.perf_counter()
scores = cross_validate(estimator, features, target, cv=FOLDS, n_jobs=cores, scoring=SCORING)
print(json.dumps({"seconds": time.perf_counter() - begun, "accuracy": float(scores["test_accuracy"].mean())}))
"""


def table() -> pd.DataFrame:
    """Two classes in 20 numeric columns, half of which say something."""
    features, target = make_classification(ROWS, COLUMNS, n_informative=10, flip_y=0.05, random_state=0)
    frame = pd.DataFrame(features, columns=[f"x{index}" for index in range(COLUMNS)])
    return frame.assign(target=target)


async def ours(client: AsyncClient, dataset: str, name: str) -> tuple[float, float, dict[str, float]]:
    """(seconds, accuracy, seconds from a step's scheduling to its end) of one job, submit to registered."""
    begun = time.perf_counter()
    job = await client.train(
        ESTIMATORS[name], dataset, target="target", name=name, folds=FOLDS, scoring=SCORING, memory="4GiB"
    )
    scheduled: dict[str, datetime] = {}
    steps: dict[str, float] = {}
    async with asyncio.timeout(JOB_SECONDS):
        async for event in job.watch():
            if event.step and event.step.state is StepState.SCHEDULED:
                scheduled.setdefault(event.step.step, event.time)
            elif event.step and event.step.state is StepState.SUCCEEDED:
                steps[event.step.step] = (event.time - scheduled[event.step.step]).total_seconds()
    seconds = time.perf_counter() - begun
    result = await job.wait()
    accuracy = next(summary.mean for summary in result.report.cross_validation if summary.name == "accuracy")
    return seconds, accuracy, steps


async def theirs(data: Path, name: str) -> tuple[float, float]:
    """(seconds, accuracy) of cross_validate, in a process of its own."""
    trees = str(ESTIMATORS[name].n_estimators)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PEER, str(data), name, str(machine_cores()), trees, stdout=subprocess.PIPE
    )
    async with asyncio.timeout(JOB_SECONDS):
        output, _ = await process.communicate()
    found = json.loads(output)
    return found["seconds"], found["accuracy"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Medians over the rounds; steps and accuracies of the last one."""

    ours: float
    theirs: float
    accuracies: tuple[float, float]
    steps: dict[str, float]

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


async def measure(client: AsyncClient, dataset: str, data: Path, name: str) -> Measured:
    """Alternates the two, so that a noisy neighbour hits both."""
    mine: list[tuple[float, float, dict[str, float]]] = []
    peers: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        peers.append(await theirs(data, name))
        mine.append(await ours(client, dataset, name))
    return Measured(
        ours=statistics.median(seconds for seconds, _, _ in mine),
        theirs=statistics.median(seconds for seconds, _ in peers),
        accuracies=(mine[-1][1], peers[-1][1]),
        steps=mine[-1][2],
    )


async def run() -> None:
    """Runs the embedded stack, and both on it."""
    configure_logs("console", "WARNING")
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as directory:
        data, frame = Path(directory) / "data.parquet", table()
        frame.to_parquet(data)
        async with (
            Stack(directory=Path(directory) / "stack") as stack,
            AsyncClient(stack.address, stack.config.tenant_key) as client,
        ):
            dataset = await client.datasets.upload(frame, name="bench")
            measured = {name: await measure(client, dataset.id, data, name) for name in ESTIMATORS}
    report(
        f"Cross-validated training, {ROWS:,} x {COLUMNS}, {FOLDS} folds, {machine_cores()} cores",
        columns=("estimator", "whole job", "cross_validate", "ratio", "accuracy", "theirs"),
        rows=[
            (
                name,
                f"{one.ours:.1f} s",
                f"{one.theirs:.1f} s",
                f"{one.ratio:.2f}",
                *(f"{a:.4f}" for a in one.accuracies),
            )
            for name, one in measured.items()
        ],
        figures={f"{name}_ratio": one.ratio for name, one in measured.items()},
        notes=(
            "The job also fits on all rows, keeps predictions and model, draws plots, logs and registers.",
            f"scikit-learn's defaults: {', '.join(f'{one.n_estimators} trees ({name})' for name, one in ESTIMATORS.items())}.",
            f"Rounds: {ROUNDS}. Load of the machine before the first: {before:.2f}.",
            *(
                f"{name}: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in one.steps.items())
                for name, one in measured.items()
            ),
        ),
    )


if __name__ == "__main__":
    asyncio.run(run())
