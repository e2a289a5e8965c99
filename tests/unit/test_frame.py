from __future__ import annotations

import io
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from mlops import errors
from mlops.jobs.dataset import Column, ColumnKind, IngestTask, ReadOptions
from mlops.jobs.training import Task
from mlops.ml.frame import load_frame, load_target, target_mask
from mlops.ml.ingest import DATA_FILE, IngestCall, ingest
from mlops.ml.progress import silent

Store = Callable[[pd.DataFrame], tuple[Path, dict[str, Column]]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Stores a frame as a dataset; gives its file and its columns."""

    def store(frame: pd.DataFrame) -> tuple[Path, dict[str, Column]]:
        sink = io.BytesIO()
        frame.to_parquet(sink)
        (tmp_path / "source").write_bytes(sink.getvalue())
        (tmp_path / "out").mkdir(exist_ok=True)
        task = IngestTask(
            tenant="acme", dataset_id="ds-1", sha256="0", source_name="x.parquet", read_options=ReadOptions()
        )
        profile = ingest(IngestCall(task=task, source=tmp_path / "source", out=tmp_path / "out"), silent)
        return tmp_path / "out" / DATA_FILE, {column.name: column for column in profile.columns}

    return store


def mixed(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "real": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
            "whole": rng.integers(0, 5, rows),
            "truth": rng.random(rows) < 0.5,
            "word": rng.choice(np.array(["b", "a", None], dtype=object), rows),
            "note": [None if i % 9 == 0 else f"note number {i}" for i in range(rows)],
            "when": [pd.NaT if i % 7 == 0 else pd.Timestamp("2024-01-01") + pd.Timedelta(hours=i) for i in range(rows)],
        }
    )


def test_every_kind_of_column_comes_as_estimators_take_it(store: Store) -> None:
    frame = mixed()
    path, columns = store(frame)
    loaded = load_frame(path, list(columns.values()))
    assert list(loaded.columns) == list(frame.columns)
    assert loaded["real"].dtype == np.float64
    np.testing.assert_array_equal(loaded["real"].to_numpy(), frame["real"].to_numpy())
    assert loaded["whole"].dtype == np.int64
    assert loaded["truth"].dtype == np.bool_
    assert loaded["word"].cat.categories.tolist() == ["a", "b"]
    assert loaded["word"].isna().tolist() == frame["word"].isna().tolist()
    assert loaded["note"].dtype == object
    assert loaded["note"].tolist()[:2] == ["", "note number 1"]
    seconds = loaded["when"].to_numpy()
    assert np.isnan(seconds[0])
    assert seconds[1] == pd.Timestamp("2024-01-01T01:00:00Z").timestamp()


def test_columns_come_in_the_order_asked_for(store: Store) -> None:
    path, columns = store(mixed())
    names = ["when", "real", "word"]
    assert list(load_frame(path, [columns[name] for name in names]).columns) == names
    numbers = load_frame(path, [columns["whole"]])
    assert list(numbers.columns) == ["whole"]
    assert load_frame(path, []).shape == (200, 0)


def test_a_column_that_is_not_there_is_named(store: Store) -> None:
    path, _ = store(mixed())
    with pytest.raises(errors.DataInvalid, match="'gone'"):
        load_frame(path, [Column(name="gone", kind=ColumnKind.TEXT, arrow_type="")])


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_numbers_are_one_view_of_the_map(store: Store, rows: int) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 9)), columns=[f"f{i}" for i in range(9)])
    path, columns = store(frame)
    before = pa.total_allocated_bytes()
    loaded = load_frame(path, list(columns.values()))
    assert pa.total_allocated_bytes() == before
    pd.testing.assert_frame_equal(loaded, frame, check_column_type=False)
    matrix = loaded.to_numpy()
    assert np.shares_memory(matrix, loaded["f3"].to_numpy())
    assert not matrix.flags.writeable
    middle = load_frame(path, [columns[name] for name in ("f2", "f3", "f4")])
    np.testing.assert_array_equal(middle.to_numpy(), frame[["f2", "f3", "f4"]].to_numpy())
    for names in (("f1", "f5", "f6"), ("f4", "f2", "f0"), ("f3", "f3", "f3")):
        scattered = load_frame(path, [columns[name] for name in names])
        np.testing.assert_array_equal(scattered.to_numpy(), frame[list(names)].to_numpy())


def test_numbers_among_other_columns_share_the_map_too(store: Store) -> None:
    path, columns = store(mixed(50_000))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    loaded = load_frame(path, [columns[name] for name in ("real", "word", "whole")])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The categories' codes are made anew: a byte a row. The numbers would be 16.
    assert held < 50_000 * 8
    assert pa.total_allocated_bytes() == before
    assert not loaded["real"].to_numpy().flags.writeable


def test_two_hundred_megabytes_of_numbers_load_in_milliseconds(store: Store) -> None:
    frame = pd.DataFrame(np.zeros((500_000, 50)), columns=[f"f{i}" for i in range(50)])
    path, columns = store(frame)
    assert path.stat().st_size > 200_000_000
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        loaded = load_frame(path, list(columns.values()))
        seconds.append(time.perf_counter() - start)
    assert loaded.shape == (500_000, 50)
    assert min(seconds) < 0.05


def test_scikit_learn_takes_the_frame_as_it_is(store: Store) -> None:
    frame = mixed()
    path, columns = store(frame)
    features = load_frame(path, [columns[name] for name in frame.columns])
    y = np.arange(len(frame)) % 2
    encoders = (
        OneHotEncoder(handle_unknown="ignore"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
        TargetEncoder(),
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
        make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder()),
    )
    for encoder in encoders:
        model = make_pipeline(
            make_column_transformer(
                (SimpleImputer(), ["real", "when"]),
                ("passthrough", ["whole", "truth"]),
                (encoder, ["word"]),
                (CountVectorizer(), "note"),
            ),
            LogisticRegression(max_iter=10_000, solver="liblinear"),
        )
        assert model.fit(features, y).predict(features).shape == (200,)
    boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=3)
    assert boosting.fit(features.drop(columns="note"), y).is_categorical_.tolist() == [False, False, False, True, False]


def test_read_only_numbers_can_be_fitted(store: Store) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=["a", "b", "y"])
    path, columns = store(frame)
    features = load_frame(path, [columns["a"], columns["b"]])
    target = load_target(path, columns["y"], Task.REGRESSION)
    assert LinearRegression().fit(features, target).predict(features).shape == (50,)


def test_a_target_leaves_out_the_rows_without_one(store: Store) -> None:
    frame = pd.DataFrame(
        {
            "word": ["b", None, "a"],
            "hole": [1.0, np.nan, 2.0],
            "real": [0.5, np.nan, 1.5],
            "truth": [True, False, True],
            "perhaps": np.array([True, None, False], dtype=object),
        }
    )
    path, columns = store(frame)
    for name, task, expected in (
        ("word", Task.CLASSIFICATION, np.array(["b", "a"])),
        ("hole", Task.CLASSIFICATION, np.array([1, 2])),
        ("hole", Task.REGRESSION, np.array([1.0, 2.0])),
        ("real", Task.REGRESSION, np.array([0.5, 1.5])),
        ("truth", Task.CLASSIFICATION, np.array([True, False, True])),
        ("truth", Task.REGRESSION, np.array([1.0, 0.0, 1.0])),
        ("perhaps", Task.CLASSIFICATION, np.array(["true", "false"])),
    ):
        target = load_target(path, columns[name], task)
        np.testing.assert_array_equal(target, expected)
        assert target.dtype == expected.dtype
        mask = target_mask(path, columns[name])
        assert mask.tolist() == frame[name].notna().tolist()
        assert mask.sum() == len(target)


def test_long_texts_can_be_classes(store: Store) -> None:
    frame = pd.DataFrame({"y": [f"class {i % 50}" for i in range(100)]})
    path, columns = store(frame)
    assert columns["y"].kind is ColumnKind.TEXT
    assert load_target(path, columns["y"], Task.CLASSIFICATION).tolist() == frame["y"].tolist()


@pytest.mark.parametrize(
    ("values", "task", "problem"),
    [
        ([0.5, 1.0], Task.CLASSIFICATION, "0.5"),
        ([np.inf, 1.0], Task.CLASSIFICATION, "inf"),
        ([np.inf, 1.0], Task.REGRESSION, "infinite in 1 rows"),
        (["a", "b"], Task.REGRESSION, "categorical"),
        ([f"note {i}" for i in range(30)], Task.REGRESSION, "text"),
        ([pd.Timestamp("2024-01-01")], Task.REGRESSION, "datetime"),
        ([pd.Timestamp("2024-01-01")], Task.CLASSIFICATION, "times"),
    ],
)
def test_a_target_that_does_not_suit_the_task_is_refused(
    store: Store, values: list[object], task: Task, problem: str
) -> None:
    path, columns = store(pd.DataFrame({"y": values}))
    with pytest.raises(errors.DataInvalid, match=problem):
        load_target(path, columns["y"], task)
