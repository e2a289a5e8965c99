"""Rows that cannot be predicted: they fail the shard, or wait to be written to its rejects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlops import errors
from mlops.jobs.inference import OnBadRow, ResultFile
from mlops.ml.batch.columns import ROW
from mlops.ml.batch.writing import json_line

REASON = "reason"
VALUES = "values"


class Rejects:
    """The rejects of one shard: a Parquet file of row, reason, and the row's values (those carried over, or else
    those that the model was to see) as a JSON object.
    """

    def __init__(self, on_bad_row: OnBadRow, max_rejects: int | None) -> None:
        self._on_bad_row = on_bad_row
        self._most = max_rejects
        self._rows: list[int] = []
        self._reasons: list[str] = []
        self._values: list[str] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, bad: Mapping[int, str], batch: Any, first: int, shown: Sequence[str]) -> None:
        """Takes rows of a block in, or raises DataInvalid where the job does not allow for them.

        bad: position in the block to the reason; first: the number of the block's first row; shown: the columns of
        the block that stand with a row.
        """
        if not bad:
            return
        if self._on_bad_row is OnBadRow.FAIL:
            position = min(bad)
            raise errors.DataInvalid(
                f"row {first + position} (counted from 0) cannot be predicted: {bad[position]}",
                hint="Mend the row, or ask for bad rows to be rejected.",
                row=first + position,
            )
        positions = sorted(bad)
        values = batch.select(list(shown)).take(pa.array(positions, pa.int64())).to_pylist()
        self._rows += [first + position for position in positions]
        self._reasons += [bad[position] for position in positions]
        self._values += map(json_line, values)
        check_rejects(len(self), self._most)

    def write(self, path: Path) -> ResultFile | None:
        """Writes the file, if any row was rejected."""
        if not self._rows:
            return None
        table = pa.table(
            {ROW: pa.array(self._rows, pa.int64()), REASON: pa.array(self._reasons), VALUES: pa.array(self._values)}
        )
        pq.write_table(table, path)
        return ResultFile(name=path.name, rows=len(self), size_bytes=path.stat().st_size)


def check_rejects(rejected: int, most: int | None) -> None:
    """Raises DataInvalid where more rows are rejected than the job allows."""
    if most is not None and rejected > most:
        raise errors.DataInvalid(
            f"{rejected} rows cannot be predicted, more than the {most} that may be rejected",
            hint="Mend the input, or allow for more rejects.",
            rejected_rows=rejected,
        )
