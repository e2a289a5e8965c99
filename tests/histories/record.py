"""Records histories of real jobs on a real stack: `python -m tests.histories.record`.

Each story becomes a file beside this one, which test_replay.py replays against the workflows as they are now.
Recorded anew, a history proves nothing about jobs that were begun before: when a workflow's commands change, put
the change behind `workflow.patched`, leave the old files as they are and record the new stories under new names:

    python -m tests.histories.record                    records the stories that have no file yet
    python -m tests.histories.record training-failed    records this one, in place of its file
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from temporalio.client import Client as TemporalClient

from mlops import Client, errors, names
from mlops.client.blocking.batchhandle import BatchHandle
from mlops.client.blocking.handle import JobHandle
from mlops.jobs.dataset import Dataset
from mlops.jobs.job import StepState
from tests.fixtures.chaos import deaf_fit, in_mid_fit, noisy, reached, steady_fit
from tests.fixtures.stack import RunningStack, running

HERE = Path(__file__).parent
TENANT = "histories"
# Stands in the files for the directory of the stack that they were recorded on.
DIRECTORY = "/srv/mlops"
# Sticky queues are named after their worker: its process id, host, and a random part.
PROCESS = re.compile(r"\d+@[\w.-]+")
WAIT_SECONDS = 180.0

# A story runs to its end and returns the id of its workflow.
Story = Callable[["Stage"], str]


class Stage:
    """A tenant on a stack, for the stories to play on."""

    def __init__(self, stack: RunningStack, client: Client) -> None:
        self.stack = stack
        self.client = client
        self.dataset: Dataset = client.datasets.upload(noisy(500), name="noisy")

    def train(self, estimator: object, **options: Any) -> JobHandle:
        """Starts a job on the dataset."""
        return self.client.train(estimator, self.dataset, target="y", **options)

    def newest(self) -> str:
        """The id of the ingestion that was started last."""
        return asyncio.run(self._newest())

    async def _newest(self) -> str:
        client = await self.temporal()
        query = f"WorkflowType = '{names.INGEST_WORKFLOW}'"
        found = [row async for row in client.list_workflows(query)]
        return max(found, key=lambda row: row.start_time).id

    async def temporal(self) -> TemporalClient:
        """A client of the tenant's namespace."""
        address = f"127.0.0.1:{self.stack.config.ports.temporal}"
        return await TemporalClient.connect(address, namespace=names.namespace(TENANT))


def training_registered(stage: Stage) -> str:
    """Folds in parallel, a registered version."""
    job = stage.train(steady_fit(20), name="registered", folds=3, holdout=0.2)
    job.wait(timeout=WAIT_SECONDS)
    return job.id


def training_unnamed(stage: Stage) -> str:
    """No folds, no model name: nothing is registered."""
    job = stage.train(steady_fit(20))
    job.wait(timeout=WAIT_SECONDS)
    return job.id


def training_failed(stage: Stage) -> str:
    """scikit-learn refuses in every fold and in the final fit."""
    estimator = make_pipeline(PolynomialFeatures(3), PCA(n_components=100_000), LogisticRegression())
    job = stage.train(estimator, name="failed", folds=2)
    with pytest.raises(errors.JobFailed):
        job.wait(timeout=WAIT_SECONDS)
    return job.id


def training_out_of_time(stage: Stage) -> str:
    """The time limit passes in mid-fit."""
    job = stage.train(deaf_fit(), name="late", time_limit="4s")
    with pytest.raises(errors.JobFailed):
        job.wait(timeout=WAIT_SECONDS)
    return job.id


def training_cancelled_in_mid_fit(stage: Stage) -> str:
    """Cancelled while folds are fitted and others wait for a core."""
    job = stage.train(steady_fit(2000), name="cancelled", folds=3)
    in_mid_fit(job, beyond=0.01)
    return _cancelled(job)


def training_cancelled_while_logged(stage: Stage) -> str:
    """Cancelled after all fits, before a version is registered."""
    job = stage.train(steady_fit(5), name="cancelled-late")
    reached(job, names.LOG_STEP, StepState.SCHEDULED)
    return _cancelled(job)


def training_retried(stage: Stage) -> str:
    """The IO worker dies while it logs: the step times out and is tried again."""
    job = stage.train(steady_fit(5), name="retried")
    reached(job, names.LOG_STEP, StepState.SCHEDULED)
    stage.stack.kill_part("worker-io")
    job.wait(timeout=WAIT_SECONDS)
    return job.id


def training_exported(stage: Stage) -> str:
    """A registered model is exported while the last folds run."""
    job = stage.train(steady_fit(20), name="exported", folds=3, holdout=0.2)
    job.wait(timeout=WAIT_SECONDS)
    return job.id


def batch_committed(stage: Stage) -> str:
    """Shards in a workflow of their own, and a manifest."""
    return _batch(stage).id


def batch_shards(stage: Stage) -> str:
    """The workflow of the shards."""
    return names.shards_workflow(_batch(stage).id)


def batch_copied(stage: Stage) -> str:
    """The input is copied from a URI first."""
    _model(stage)
    directory = stage.stack.directory / "imports" / TENANT
    directory.mkdir(parents=True, exist_ok=True)
    noisy(300).to_parquet(directory / "batch.parquet")
    job = stage.client.predict_batch("asked", (directory / "batch.parquet").as_uri())
    job.wait(timeout=WAIT_SECONDS)
    return job.id


def batch_failed(stage: Stage) -> str:
    """A row that cannot be predicted."""
    _model(stage)
    table = noisy(300)
    table.loc[7, "x0"] = float("inf")
    dataset = stage.client.datasets.upload(table, name="poisoned")
    job = stage.client.predict_batch("asked", dataset, rows_per_shard=100)
    with pytest.raises(errors.JobFailed):
        job.wait(timeout=WAIT_SECONDS)
    return job.id


def ingest_uploaded(stage: Stage) -> str:
    """Bytes that are stored already become a dataset."""
    stage.client.datasets.upload(noisy(50), name="small")
    return stage.newest()


def ingest_copied(stage: Stage) -> str:
    """A file is copied, then read."""
    directory = stage.stack.directory / "imports" / TENANT
    directory.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}).to_csv(directory / "copied.csv", index=False)
    stage.client.datasets.register((directory / "copied.csv").as_uri())
    return stage.newest()


def ingest_failed(stage: Stage) -> str:
    """A file that begins and ends as its name says, and is nothing of the kind."""
    file = stage.stack.directory / "broken.parquet"
    file.write_bytes(b"PAR1 is all that is right about this PAR1")
    with pytest.raises(errors.InvalidRequest, match="Parquet"):
        stage.client.datasets.upload(file, name="broken")
    return stage.newest()


STORIES: tuple[Story, ...] = (
    training_registered,
    training_unnamed,
    training_failed,
    training_out_of_time,
    training_cancelled_in_mid_fit,
    training_cancelled_while_logged,
    training_retried,
    training_exported,
    batch_committed,
    batch_shards,
    batch_copied,
    batch_failed,
    ingest_uploaded,
    ingest_copied,
    ingest_failed,
)


def name_of(story: Story) -> str:
    """What its file is called, without the ending."""
    return story.__name__.replace("_", "-")


def file_of(story: Story) -> Path:
    """Where it is recorded."""
    return HERE / f"{name_of(story)}.json"


def main(wanted: list[str]) -> None:
    """Records what is asked for, or everything that has no file yet."""
    unknown = set(wanted) - {name_of(story) for story in STORIES}
    if unknown:
        raise SystemExit(f"no such story: {', '.join(sorted(unknown))}; there are {', '.join(map(name_of, STORIES))}")
    stories = [one for one in STORIES if name_of(one) in wanted or (not wanted and not file_of(one).exists())]
    if not stories:
        sys.stdout.write("Every story is recorded; name those to record anew.\n")
        return
    with _stage() as stage:
        for story in stories:
            file = file_of(story)
            file.write_text(asyncio.run(_history(stage, story(stage))))
            sys.stdout.write(f"{file.name}: {file.stat().st_size} bytes\n")


@contextmanager
def _stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "stack") as stack:
        with stack.admin() as admin:
            key = admin.tenants.create(TENANT).key
        assert key is not None
        with stack.client(key.secret) as client:
            yield Stage(stack, client)


def _model(stage: Stage) -> None:
    """A model to ask, trained once."""
    if not any(stage.client.models.list(name="asked")):
        stage.train(LogisticRegression(), name="asked").wait(timeout=WAIT_SECONDS)


def _batch(stage: Stage) -> BatchHandle:
    _model(stage)
    job = stage.client.predict_batch("asked", stage.dataset, rows_per_shard=100)
    job.wait(timeout=WAIT_SECONDS)
    return job


def _cancelled(job: JobHandle) -> str:
    job.cancel("recorded")
    with pytest.raises(errors.JobCancelled):
        job.wait(timeout=WAIT_SECONDS)
    return job.id


async def _history(stage: Stage, workflow_id: str) -> str:
    client = await stage.temporal()
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    told = {"workflowId": workflow_id, **_impersonal(history.to_json_dict(), str(stage.stack.directory.resolve()))}
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def _impersonal(value: Any, directory: str) -> Any:
    """The same without what belongs to the machine: hosts, process ids, paths, stack traces."""
    if isinstance(value, dict):
        return {
            key: "worker"
            if key == "identity"
            else _data(one, directory)
            if key == "data"
            else _impersonal(one, directory)
            for key, one in value.items()
            if key != "stackTrace"
        }
    if isinstance(value, list):
        return [_impersonal(one, directory) for one in value]
    return PROCESS.sub("worker", value).replace(directory, DIRECTORY) if isinstance(value, str) else value


def _data(encoded: Any, directory: str) -> Any:
    """A payload's bytes."""
    if not isinstance(encoded, str):
        return _impersonal(encoded, directory)
    plain = base64.b64decode(encoded).replace(directory.encode(), DIRECTORY.encode())
    return base64.b64encode(plain).decode()


if __name__ == "__main__":
    main(sys.argv[1:])
