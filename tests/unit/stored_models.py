"""Models as the platform keeps them, made by real fits, for tests of what predicts with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops import names
from mlops.jobs.card import ModelCard, PredictMethod
from mlops.jobs.dataset import Column, ColumnKind, ReadOptions
from mlops.jobs.inference import BatchInferencePlan, OnBadRow, OutputFormat
from mlops.jobs.training import Resources, Task, TrainingPlan
from mlops.ml import modelfile
from mlops.ml.cards import card_of
from mlops.ml.frame import load_frame, load_target
from tests.fixtures.plans import plan, write_arrow


def counted(columns: Sequence[Column], frame: pd.DataFrame) -> tuple[Column, ...]:
    """The columns with the missing values that ingestion would have counted."""
    return tuple(column.model_copy(update={"null_count": int(frame[column.name].isna().sum())}) for column in columns)


def store_model(
    model: Any, frame: pd.DataFrame, directory: Path, *, task: Task = Task.CLASSIFICATION, target: str = "y"
) -> tuple[Any, ModelCard, TrainingPlan]:
    """Fits `model` on a frame as the platform would, and stores it in a directory.

    Gives the fitted model as it was stored, its card, and the plan; the data is left beside it as data.arrow.
    """
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "data.arrow"
    of = plan(counted(write_arrow(frame, data), frame), target=target, task=task)
    features = load_frame(data, of.features)
    column = of.target
    model.fit(features, load_target(data, column, task))
    modelfile.save(model, directory / names.STEP_MODEL)
    card = card_of(of, model, features, size_bytes=(directory / names.STEP_MODEL).stat().st_size)
    (directory / names.CARD_FILE).write_text(card.model_dump_json(), encoding="utf-8")
    return modelfile.load(directory / names.STEP_MODEL), card, of


def batch_plan(**changes: Any) -> BatchInferencePlan:
    """A plan of a batch job; `changes` are its fields."""
    given: dict[str, Any] = {
        "name": "test",
        "model_name": "flowers",
        "model_version": 1,
        "model_alias": None,
        "model_id": "m-0",
        "dataset_id": None,
        "dataset_name": "",
        "uri": "file:///data/input",
        "read_options": ReadOptions(),
        "rows": None,
        "max_bytes": 10**9,
        "outputs": (PredictMethod.PREDICT,),
        "carry": (),
        "output_format": OutputFormat.PARQUET,
        "rows_per_shard": None,
        "on_bad_row": OnBadRow.FAIL,
        "max_rejects": None,
        "target": None,
        "resources": Resources(),
        "time_limit": timedelta(minutes=5),
        "max_attempts": 1,
        "labels": {},
    } | changes
    return BatchInferencePlan(**given)


def columns_of(frame: pd.DataFrame) -> list[Any]:
    """A loaded frame's columns as ml.prediction takes them."""
    return [
        frame.iloc[:, index].array
        if isinstance(frame.dtypes.iloc[index], pd.CategoricalDtype)
        else frame.iloc[:, index].to_numpy()
        for index in range(frame.shape[1])
    ]


def mixed(rows: int = 300, *, seed: int = 0) -> pd.DataFrame:
    """Columns of every kind, some with missing values, and a class that follows from them, roughly."""
    rng = np.random.default_rng(seed)
    real = rng.normal(size=rows)
    frame = pd.DataFrame(
        {
            "real": real,
            "gap": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows)),
            "whole": rng.integers(0, 5, rows),
            "truth": rng.random(rows) < 0.5,
            "word": pd.Categorical(rng.choice(np.array(["b", "a", "c", None], dtype=object), rows)),
            "note": np.array([f"note number {i % 40}" for i in range(rows)], dtype=object),
            "when": pd.date_range("2024-01-01", periods=rows, freq="h"),
        }
    )
    frame["y"] = np.where(real + (frame["word"] == "a") > 0, "yes", "no").astype(object)
    return frame


KINDS = tuple(ColumnKind)
