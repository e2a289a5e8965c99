"""Every form that data comes in, and every way of judging, end to end: the jobs run side by side."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor

from mlops import Client, errors
from mlops.client import JobHandle
from mlops.jobs.dataset import ColumnKind, DataFormat, Dataset, ReadOptions
from mlops.jobs.report import TrainingResult
from mlops.jobs.training import Splitter
from tests.fixtures.s3 import S3
from tests.fixtures.stack import LAKE, RunningStack

WAIT_SECONDS = 150


def mixed() -> pd.DataFrame:
    """Every kind of column with values missing in each, and classes that follow from them."""
    random = np.random.default_rng(1)
    rows = 300
    age = random.integers(18, 80, rows).astype(float)
    city = random.choice(["Ulm", "Köln", "Bern"], rows).astype(object)
    joined = pd.Series(pd.Timestamp("2023-01-01") + pd.to_timedelta(random.integers(0, 1000, rows), unit="D"))
    grade = np.where(age < 40, "low", np.where(joined < pd.Timestamp("2024-06-01"), "middle", "high"))
    for column in (age, city):
        column[random.random(rows) < 0.08] = np.nan if column.dtype == float else None
    joined = joined.mask(pd.Series(random.random(rows) < 0.05))
    return pd.DataFrame(
        {"age": age, "city": city, "joined": joined, "member": random.random(rows) < 0.5, "grade": grade}
    )


def houses() -> pd.DataFrame:
    """A regression with missing values among features and targets."""
    random = np.random.default_rng(2)
    area, rooms = random.uniform(30, 200, 300), random.integers(1, 7, 300).astype(float)
    price = area * 2000 + rooms * 5000 + random.normal(0, 5000, 300)
    area[random.random(300) < 0.1] = np.nan
    price[:12] = np.nan
    return pd.DataFrame({"area": area, "rooms": rooms, "price": price})


def patients() -> pd.DataFrame:
    """A value that hangs on the patient alone: it can be looked up, and not be predicted for a new one."""
    random = np.random.default_rng(3)
    trait, value = random.normal(size=40), random.normal(size=40)
    patient = np.repeat(np.arange(40), 6)
    return pd.DataFrame({"patient": [f"p{i}" for i in patient], "trait": trait[patient], "value": value[patient]})


def reviews() -> pd.DataFrame:
    random = np.random.default_rng(4)
    good, bad = ["lovely", "quiet", "clean", "friendly", "warm"], ["dirty", "noisy", "rude", "dark", "broken"]
    neutral = ["the", "room", "was", "by", "a", "street", "with", "hotel", "and", "breakfast", "in", "it"]
    liked = random.random(240) < 0.5
    texts = [" ".join([*random.choice(neutral, 7), *random.choice(good if one else bad, 3)]) for one in liked]
    return pd.DataFrame({"text": texts, "liked": liked})


def sales() -> pd.DataFrame:
    """It grows by the day, in a file that is not in the order of time. A tree cannot know what it has not seen."""
    days = np.arange(240)
    frame = pd.DataFrame({"day": days, "when": pd.Timestamp("2025-01-01") + pd.to_timedelta(days, unit="D")})
    frame["sold"] = frame["day"] * 3.0
    return frame.sample(frac=1.0, random_state=0)


def readings() -> pd.DataFrame:
    """y = 3 x, but half of the older rows are wrong, and weigh nothing."""
    random = np.random.default_rng(5)
    x = random.normal(size=300)
    y, trust = 3.0 * x + random.normal(0, 0.1, 300), np.ones(300)
    wrong = np.arange(0, 200, 2)
    y[wrong], trust[wrong] = -9.0 * x[wrong], 1e-9
    return pd.DataFrame({"x": x, "trust": trust, "at": np.arange(300), "y": y})


def written(frame: pd.DataFrame, form: str) -> bytes:
    file = io.BytesIO()
    if form == "parquet":
        frame.to_parquet(file)
    elif form == "jsonl":
        frame.to_json(file, orient="records", lines=True, date_format="iso")
    elif form == "arrow":
        table = pa.Table.from_pandas(frame, preserve_index=False)
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    elif form == "european csv":
        return frame.to_csv(index=False, sep=";", decimal=",").encode("latin-1")
    else:
        frame.to_csv(file, index=False)
    return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A job that was submitted with the others."""

    dataset: Dataset
    job: JobHandle

    def result(self) -> TrainingResult:
        return self.job.wait(timeout=WAIT_SECONDS)

    def mean(self, scorer: str) -> float:
        return {one.name: one.mean for one in self.result().report.cross_validation}[scorer]


@pytest.fixture(scope="module")
def tenant(stack: RunningStack) -> Iterator[tuple[str, Client]]:
    slug, key = stack.new_tenant()
    with stack.client(key) as client:
        yield slug, client


@pytest.fixture(scope="module")
def ran(
    tenant: tuple[str, Client], stack: RunningStack, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Ran]:
    """Every dataset and its job, all of them submitted before the first is waited for."""
    slug, client = tenant
    home = tmp_path_factory.mktemp("files")
    imports = stack.directory / "imports" / slug
    imports.mkdir(parents=True)

    def upload(frame: pd.DataFrame, name: str, **options: Any) -> Dataset:
        path = home / name
        path.write_bytes(written(frame, options.pop("form", path.suffix[1:])))
        return client.datasets.upload(path, **options)

    def from_bucket(frame: pd.DataFrame) -> Dataset:
        uri = f"s3://{LAKE}/{slug}/deep/sales.csv"
        with fsspec.filesystem("s3", **s3.options).open(uri, "wb") as file:
            file.write(written(frame, "csv"))
        return client.datasets.register(uri)

    def from_path(frame: pd.DataFrame) -> Dataset:
        path = imports / "readings.parquet"
        path.write_bytes(written(frame, "parquet"))
        return client.datasets.register(path.as_uri())

    prose = ReadOptions(column_kinds={"text": ColumnKind.TEXT})
    datasets = {
        "mixed": upload(mixed(), "mixed.csv", form="european csv"),
        "houses": upload(houses(), "houses.parquet"),
        "patients": upload(patients(), "patients.arrow"),
        "reviews": upload(reviews(), "reviews.jsonl", read_options=prose),
        "sales": from_bucket(sales()),
        "readings": from_path(readings()),
    }
    tree, forest = DecisionTreeRegressor(), RandomForestRegressor(n_estimators=20)
    # A vectorizer takes a column of texts, and no table.
    words = make_pipeline(ColumnTransformer([("words", TfidfVectorizer(), "text")]), LogisticRegression())
    patients_apart: Mapping[str, Any] = {"features": ["trait"], "target": "value", "folds": 4}
    in_time: Mapping[str, Any] = {"features": ["day"], "target": "sold", "folds": 3}
    latest: Mapping[str, Any] = {"features": ["x"], "target": "y", "time_column": "at", "holdout": 0.25}
    asked: dict[str, tuple[str, object | None, Mapping[str, Any]]] = {
        "mixed": ("mixed", None, {"target": "grade", "folds": 3, "name": "grades"}),
        "houses": ("houses", None, {"target": "price"}),
        "patients": ("patients", tree, {**patients_apart, "group_column": "patient"}),
        "patients shuffled": ("patients", tree, {**patients_apart, "splitter": "shuffled"}),
        "reviews": ("reviews", None, {"target": "liked", "folds": 3}),
        "reviews by hand": ("reviews", words, {"target": "liked", "folds": 3}),
        "sales": ("sales", forest, {**in_time, "time_column": "when"}),
        "sales shuffled": ("sales", forest, {**in_time, "splitter": "shuffled"}),
        "readings": ("readings", LinearRegression(), {**latest, "weight_column": "trust"}),
        "readings unweighted": ("readings", LinearRegression(), latest),
    }
    return {
        title: Ran(dataset=datasets[data], job=client.train(estimator, datasets[data], **options))
        for title, (data, estimator, options) in asked.items()
    }


def kinds(dataset: Dataset) -> dict[str, ColumnKind]:
    return {column.name: column.kind for column in dataset.profile.columns}


def test_a_csv_in_another_dialect_with_every_kind_of_column(ran: dict[str, Ran]) -> None:
    one = ran["mixed"]
    assert one.dataset.profile.format is DataFormat.CSV
    assert kinds(one.dataset) == {
        "age": ColumnKind.NUMERIC,
        "city": ColumnKind.CATEGORICAL,
        "joined": ColumnKind.DATETIME,
        "member": ColumnKind.BOOLEAN,
        "grade": ColumnKind.CATEGORICAL,
    }
    missing = {column.name: column.null_count for column in one.dataset.profile.columns}
    assert missing == {name: int(count) for name, count in mixed().isna().sum().items()}
    city = one.dataset.column("city")
    assert city is not None
    assert "Köln" in {value.value for value in city.top_values}
    report = one.result().report
    assert one.mean("accuracy") > 0.8
    assert report.classes == ("high", "low", "middle")
    assert report.confusion_matrix is not None
    assert sum(map(sum, report.confusion_matrix.counts)) == 300
    assert {curve.kind for curve in report.curves} == {"roc", "pr"}
    assert "plots/confusion_matrix.png" in report.plots


def test_a_regression_with_missing_features_and_targets(ran: dict[str, Ran]) -> None:
    one = ran["houses"]
    assert one.dataset.profile.format is DataFormat.PARQUET
    report = one.result().report
    assert report.holdout["r2"] > 0.8
    assert report.residuals is not None
    assert report.residuals.minimum < report.residuals.median < report.residuals.maximum
    assert max(report.importances, key=lambda item: item.importance).feature == "area"
    assert one.job.refresh().steps


def test_grouped_folds_keep_a_patient_on_one_side(ran: dict[str, Ran]) -> None:
    assert ran["patients"].dataset.profile.format is DataFormat.ARROW
    plan = ran["patients"].job.job.plan
    assert plan is not None
    assert plan.splitter is Splitter.GROUPED
    # Looked up among shuffled rows, guessed for patients never seen.
    assert ran["patients shuffled"].mean("r2") > 0.9
    assert ran["patients"].mean("r2") < 0.3


def test_texts_are_learned_from_as_json_lines(ran: dict[str, Ran]) -> None:
    one = ran["reviews"]
    assert one.dataset.profile.format is DataFormat.JSONL
    assert kinds(one.dataset) == {"text": ColumnKind.TEXT, "liked": ColumnKind.BOOLEAN}
    assert one.mean("accuracy") > 0.9
    assert ran["reviews by hand"].mean("roc_auc") > 0.95


def test_folds_in_time_are_judged_on_later_rows_only(ran: dict[str, Ran], tenant: tuple[str, Client]) -> None:
    one = ran["sales"]
    assert one.dataset.source_uri == f"s3://{LAKE}/{tenant[0]}/deep/sales.csv"
    assert kinds(one.dataset)["when"] is ColumnKind.DATETIME
    assert ran["sales shuffled"].mean("r2") > 0.95
    assert one.mean("r2") < 0


def test_weights_count_in_the_fit(ran: dict[str, Ran]) -> None:
    assert ran["readings"].dataset.source_uri.startswith("file://")
    assert ran["readings"].result().report.holdout["r2"] > 0.99
    assert ran["readings unweighted"].result().report.holdout["r2"] < 0.5


def test_what_is_not_in_the_bucket_is_not_found(tenant: tuple[str, Client]) -> None:
    slug, client = tenant
    with pytest.raises(errors.NotFound) as caught:
        client.datasets.register(f"s3://{LAKE}/{slug}/nothing.csv")
    assert caught.value.resource_type == "source"
    with pytest.raises(errors.InvalidRequest):
        client.datasets.register(f"s3://{LAKE}/another/sales.csv")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.csv", b""),
        ("header.csv", b"a,b\n"),
        ("broken.parquet", b"PAR1" + b"\0" * 50 + b"PAR1"),
        ("broken.arrow", b"ARROW1\0\0" + b"\xff" * 100),
        ("broken.jsonl", b'{"a": 1}\n{"a":\n'),
        ("array.jsonl", b'[{"a": 1}]'),
        ("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
    ],
)
def test_what_cannot_be_read_is_the_callers_error(
    name: str, data: bytes, tenant: tuple[str, Client], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    _, client = tenant
    before = len(list(client.datasets.list()))
    with pytest.raises(errors.InvalidRequest):
        client.datasets.upload(path)
    assert len(list(client.datasets.list())) == before


def test_a_dataset_over_the_quota_is_refused_by_its_limit(stack: RunningStack) -> None:
    slug, key = stack.new_tenant()
    imports = stack.directory / "imports" / slug
    imports.mkdir(parents=True)
    large = imports / "large.csv"
    large.write_bytes(b"a,b\n" + b"1,2\n" * 5000)
    with stack.admin() as admin, stack.client(key) as client:
        admin.tenants.update(slug, quota={"max_dataset_bytes": 1000})

        def refused(send: Callable[[], Dataset]) -> errors.QuotaExceeded:
            with pytest.raises(errors.QuotaExceeded) as caught:
                send()
            return caught.value

        for send in (lambda: client.datasets.register(large.as_uri()), lambda: client.datasets.upload(large)):
            assert refused(send).limit == "max_dataset_bytes"
        assert list(client.datasets.list()) == []
