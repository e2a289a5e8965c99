"""Batch inference as a user runs it, over every form of input and output, held against scikit-learn in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlops import Client, errors, names
from mlops.client.blocking.batchhandle import BatchHandle
from mlops.jobs.job import JobState
from tests.fixtures.s3 import S3
from tests.fixtures.shell import Shell
from tests.fixtures.stack import LAKE, RunningStack

WAIT_SECONDS = 150
MODEL = "leavers"
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "csv": pd.read_csv,
    "jsonl": lambda part: pd.read_json(part, lines=True),
    "arrow": lambda part: pa.ipc.open_file(part).read_pandas(),
}
pytestmark = pytest.mark.timeout(300)


def people(rows: int, seed: int) -> pd.DataFrame:
    """Numbers, categories and missing values, and who leaves."""
    random = np.random.default_rng(seed)
    age = random.uniform(18, 80, rows)
    city = random.choice(["Ulm", "Köln", "Bern"], rows).astype(object)
    left = (age + np.where(city == "Bern", 30, 0) + random.normal(0, 10, rows) > 60).astype(int)
    age[random.random(rows) < 0.05] = np.nan
    city[random.random(rows) < 0.05] = None
    return pd.DataFrame(
        {"id": np.arange(rows) + 1000, "age": age, "city": city, "pay": random.normal(size=rows), "left": left}
    )


def estimator() -> Pipeline:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return make_pipeline(
        ColumnTransformer(
            [("numbers", numbers, ["age", "pay"]), ("city", OneHotEncoder(handle_unknown="ignore"), ["city"])]
        ),
        LogisticRegression(),
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """A tenant with a model, and its shell."""

    stack: RunningStack
    slug: str
    client: Client
    shell: Shell

    def imports(self, name: str) -> Path:
        """A file that the tenant may read by its path."""
        folder = self.stack.directory / "imports" / self.slug
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name


@pytest.fixture(scope="module")
def place(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    slug, key = stack.new_tenant()
    training = people(2000, seed=0)
    with stack.client(key) as client:
        dataset = client.datasets.upload(training, name="people")
        features = ["age", "city", "pay"]
        client.train(estimator(), dataset, target="left", name=MODEL, features=features).wait(timeout=WAIT_SECONDS)
        shell = Shell(
            directory=tmp_path_factory.mktemp("shell"), environment={**stack.environment, "MLOPS_API_KEY": key}
        )
        yield Place(stack=stack, slug=slug, client=client, shell=shell)


def test_a_parquet_file_larger_than_a_shard_gives_each_row_once_and_in_order(place: Place) -> None:
    table = people(25_000, seed=1)
    file = place.imports("many.parquet")
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), file, row_group_size=4000)
    job = place.client.predict_batch(
        MODEL,
        file.as_uri(),
        carry=["id", "left"],
        outputs=["predict", "predict_proba"],
        rows_per_shard=3000,
        target="left",
    )
    result = job.wait(timeout=WAIT_SECONDS)
    frame = job.result()
    assert len(result.report.files) == 9
    assert frame["row"].tolist() == list(range(25_000))
    assert frame["id"].tolist() == table["id"].tolist()
    assert ((frame["probability[1]"] > 0.5) == (frame["prediction"] == 1)).all()
    scores, truth = result.report.scores, table["left"]
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, frame["prediction"]))
    assert scores["log_loss"] == pytest.approx(log_loss(truth, frame["probability[1]"]))
    assert scores["roc_auc"] == pytest.approx(roc_auc_score(truth, frame["probability[1]"]), abs=1e-3)
    assert result.report.scored_rows == 25_000
    # The rows are drawn as those of the training were.
    assert {drift.feature for drift in result.report.drift} == {"age", "city", "pay"}
    assert max(drift.psi for drift in result.report.drift) < 0.1
    manifest = json.loads(Path(result.uri.removeprefix("file://"), names.MANIFEST_FILE).read_text())
    assert manifest["job_id"] == job.id
    assert not list((place.stack.directory / "storage" / "tenants" / place.slug / "jobs" / job.id).glob("input/*"))
    # One row at a time, online, says the same.
    few = table.head(20)
    online = place.client.predict(MODEL, few[["age", "city", "pay"]], outputs=["predict", "predict_proba"])
    assert online["prediction"].tolist() == frame["prediction"].head(20).tolist()
    np.testing.assert_allclose(online["probability[1]"], frame["probability[1]"].head(20), rtol=1e-5)


@pytest.mark.parametrize("output_format", ["csv", "jsonl", "arrow"])
def test_csv_from_a_bucket_becomes_any_format(place: Place, s3: S3, output_format: str, tmp_path: Path) -> None:
    table = people(1500, seed=2).drop(columns="left")
    uri = f"s3://{LAKE}/{place.slug}/{output_format}/new.csv"
    with fsspec.open(uri, "w", **s3.options) as file:
        table.to_csv(file, index=False)
    said = place.shell.mlops(
        "predict", "batch", MODEL, "--uri", uri, "--carry", "id", "--output-format", output_format,
        "--rows-per-shard", "1000", "--output", "json",
    )  # fmt: skip
    job_id = json.loads(said.splitlines()[-1])["job"]["id"]
    place.shell.mlops("job", "download", job_id, "--to", str(tmp_path))
    parts = sorted(tmp_path.glob("part-*"))
    assert [part.suffix for part in parts] == [f".{output_format}"] * 2
    frame = pd.concat([READERS[output_format](part) for part in parts])
    assert frame["id"].tolist() == table["id"].tolist()
    assert set(frame["prediction"]) <= {0, 1}


def test_a_poisoned_row_fails_the_job_with_its_number_or_lands_in_the_rejects(place: Place) -> None:
    table = people(3000, seed=3).drop(columns="left")
    table["pay"] = table["pay"].astype(object)
    table.loc[[7, 2500], "pay"] = float("inf")
    table["pay"] = table["pay"].astype(float)
    dataset = place.client.datasets.upload(table, name="poisoned")
    strict = place.client.predict_batch(MODEL, dataset, rows_per_shard=1000)
    with pytest.raises(errors.JobFailed, match=r"[Rr]ow (7|2500)\b"):
        strict.wait(timeout=WAIT_SECONDS)
    with pytest.raises(errors.FailedPrecondition):
        place.client.jobs.download(strict.id, to=place.shell.directory / "nothing")
    lenient = place.client.predict_batch(MODEL, dataset, rows_per_shard=1000, on_bad_row="reject", carry="id")
    result = lenient.wait(timeout=WAIT_SECONDS)
    assert (result.report.rows, result.report.rejected_rows) == (3000, 2)
    assert set(range(3000)) - set(lenient.result()["row"]) == {7, 2500}
    paths = place.client.jobs.download(lenient.id, to=place.shell.directory / "rejects", part="rejects")
    rejected = pd.concat([pd.read_parquet(path) for path in paths])
    assert rejected["row"].tolist() == [7, 2500]
    assert rejected["reason"].str.contains("pay").all()
    bounded = place.client.predict_batch(MODEL, dataset, rows_per_shard=1000, on_bad_row="reject", max_rejects=1)
    with pytest.raises(errors.JobFailed, match="2"):
        bounded.wait(timeout=WAIT_SECONDS)


def test_columns_that_do_not_fit_are_told_before_any_work(place: Place) -> None:
    wrong = people(50, seed=4).drop(columns=["left", "pay"]).assign(age="old")
    dataset = place.client.datasets.upload(wrong, name="wrong")
    with pytest.raises(errors.InvalidRequest) as refused:
        place.client.predict_batch(MODEL, dataset)
    assert set(refused.value.violations) == {"spec.dataset[age]", "spec.dataset[pay]"}
    file = place.imports("wrong.parquet")
    wrong.to_parquet(file)
    job = place.client.predict_batch(MODEL, file.as_uri())
    with pytest.raises(errors.JobFailed, match=r"'age' is .*; column 'pay' is missing"):
        job.wait(timeout=WAIT_SECONDS)
    assert job.refresh().failure is not None
    assert job.job.failure is not None
    assert job.job.failure.step == names.PLAN_STEP


def test_a_cancelled_batch_is_retried_and_runs_just_what_is_missing(place: Place) -> None:
    slow = RandomForestClassifier(800, max_depth=3, random_state=0)
    table = people(6000, seed=5)[["age", "pay", "left"]].dropna()
    dataset = place.client.datasets.upload(table, name="numbers")
    place.client.train(slow, dataset, target="left", name="slow").wait(timeout=WAIT_SECONDS)
    job = place.client.predict_batch("slow", dataset, rows_per_shard=100, carry="*")
    shards = place.stack.directory / "storage" / "tenants" / place.slug / "jobs" / job.id / "shards"
    finished = _some(shards, 5)
    job.cancel("looked enough")
    with pytest.raises(errors.JobCancelled):
        job.wait(timeout=WAIT_SECONDS)
    before = {path: path.stat().st_mtime_ns for path in shards.glob("*.json")}
    assert finished <= set(before)
    assert len(before) < len(table) // 100, "it was over before it was cancelled"
    place.shell.mlops("job", "retry", job.id, "--output", "json")
    again = place.client.job(job.id)
    assert isinstance(again, BatchHandle)
    result = again.wait(timeout=WAIT_SECONDS)
    assert again.refresh().attempt == 2
    assert result.report.rows == len(table)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was done is not done again"
    assert again.result()["row"].tolist() == list(range(len(table)))
    listed = [one.id for one in place.client.jobs.list(kinds=["batch_inference"], states=[JobState.SUCCEEDED])]
    assert listed.count(job.id) == 1


def _some(folder: Path, wanted: int) -> set[Path]:
    deadline = time.monotonic() + 60
    while len(found := set(folder.glob("*.json"))) < wanted:
        assert time.monotonic() < deadline, f"{len(found)} shards are done after a minute"
        time.sleep(0.05)
    return found
