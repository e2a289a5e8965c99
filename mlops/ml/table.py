"""The rows of a dataset that a plan trains on: those whose target is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from mlops.errors import DataInvalid
from mlops.jobs.dataset import Column, ColumnKind
from mlops.jobs.training import TrainingPlan
from mlops.ml.frame import load_frame, load_target, target_mask
from mlops.ml.splits import Indices, Keys


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a fit needs. All of the same length; `rows` are positions in the dataset.

    weights: float64 (n,), finite and not negative, or None.
    """

    features: pd.DataFrame
    target: npt.NDArray[Any]
    weights: npt.NDArray[np.float64] | None
    keys: Keys
    rows: npt.NDArray[np.int64]

    def take(self, rows: Indices) -> pd.DataFrame:
        """The features of these rows; without a copy where these are all."""
        return self.features if len(rows) == len(self.features) else self.features.iloc[rows]


def load_table(path: Path, plan: TrainingPlan) -> Table:
    """Reads what the plan uses of a canonical Arrow file; numbers stay mapped from it where nothing is dropped.

    Raises DataInvalid where no row has a target, or where the weights are not weights.
    """
    features = load_frame(path, plan.features)
    mask = target_mask(path, plan.target)
    target = load_target(path, plan.target, plan.task)
    if not mask.any():
        raise DataInvalid(f"the target column {plan.target.name!r} has no values")
    named = {name for name in (plan.weight_column, plan.group_column, plan.time_column) if name is not None}
    columns = {name: load_frame(path, [_column(path, name)])[name] for name in sorted(named)}
    if not mask.all():
        features = features.loc[mask].reset_index(drop=True)
        columns = {name: column[mask] for name, column in columns.items()}
    return Table(
        features=features,
        target=target,
        weights=None if plan.weight_column is None else _weights(columns[plan.weight_column]),
        keys=Keys(
            target=target,
            groups=None if plan.group_column is None else np.asarray(columns[plan.group_column], dtype=object),
            times=None if plan.time_column is None else columns[plan.time_column].to_numpy(dtype=np.float64),
        ),
        rows=np.flatnonzero(mask).astype(np.int64),
    )


def _weights(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    weights = column.to_numpy(dtype=np.float64)
    wrong = int((~np.isfinite(weights) | (weights < 0)).sum())
    if wrong:
        raise DataInvalid(
            f"the weight column {str(column.name)!r} is missing, infinite or negative in {wrong} rows",
            hint="Give every row a weight of 0 or more.",
        )
    if not weights.any():
        raise DataInvalid(f"the weight column {str(column.name)!r} is 0 in every row")
    return weights


def _column(path: Path, name: str) -> Column:
    """The plan names these columns only; the file knows their types."""
    with pa.memory_map(str(path)) as source:
        kind = pa.ipc.open_file(source).schema.field(name).type
    return Column(name=name, kind=_kind(kind), arrow_type=str(kind))


def _kind(kind: pa.DataType) -> ColumnKind:
    if pa.types.is_timestamp(kind):
        return ColumnKind.DATETIME
    if pa.types.is_boolean(kind):
        return ColumnKind.BOOLEAN
    if pa.types.is_dictionary(kind):
        return ColumnKind.CATEGORICAL
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return ColumnKind.NUMERIC
    return ColumnKind.TEXT
