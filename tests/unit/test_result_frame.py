"""Result files of every format as one DataFrame: written by what the workers write them with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from mlops import errors
from mlops.client.resultframe import read_frame, require_pandas

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("zip", pa.string()),
        ("when", pa.timestamp("us", "UTC")),
        ("plan", pa.dictionary(pa.int32(), pa.string())),
        ("prediction", pa.bool_()),
        ("probability[true]", pa.float64()),
    ]
)
NOON = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)


def table(rows: list[dict[str, Any]]) -> Any:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


FIRST = table(
    [
        {"row": 0, "zip": "01", "when": NOON, "plan": "a", "prediction": True, "probability[true]": 0.75},
        {"row": 1, "zip": "", "when": None, "plan": None, "prediction": False, "probability[true]": None},
    ]
)
SECOND = table([{"row": 2, "zip": "3", "when": NOON, "plan": "b", "prediction": True, "probability[true]": 1.0}])


def write(table: Any, path: Path) -> Path:
    plain = table.set_column(3, "plan", table["plan"].cast(pa.string()))
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(str(path), plain.schema) as writer:
            writer.write_table(plain)
    elif path.suffix == ".csv":
        pa_csv.write_csv(plain, path)
    else:
        rows = [{k: v.isoformat() if isinstance(v, datetime) else v for k, v in r.items()} for r in plain.to_pylist()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "jsonl"])
def test_the_files_of_a_result_make_one_frame_in_their_order(suffix: str, tmp_path: Path) -> None:
    paths = [write(FIRST, tmp_path / f"part-0.{suffix}"), write(SECOND, tmp_path / f"part-1.{suffix}")]
    # The wire tells the types without an order.
    columns = {field.name: str(field.type) for field in reversed(list(SCHEMA))}
    frame = read_frame(paths, columns)
    assert list(frame.columns) == SCHEMA.names
    assert list(frame.index) == [0, 1, 2]
    assert list(frame["row"]) == [0, 1, 2]
    assert list(frame["zip"]) == ["01", "", "3"]
    assert frame["when"][0] == NOON
    assert frame["when"].isna().tolist() == [False, True, False]
    assert [None if pd.isna(value) else value for value in frame["plan"]] == ["a", None, "b"]
    assert list(frame["prediction"]) == [True, False, True]
    assert frame["probability[true]"].isna().tolist() == [False, True, False]


def test_a_result_without_files_has_its_columns() -> None:
    assert list(read_frame([], {"prediction": "string"}).columns) == ["prediction"]


def test_a_result_without_rows_in_one_shard_is_read(tmp_path: Path) -> None:
    empty = tmp_path / "part-0.jsonl"
    empty.touch()
    columns = {field.name: str(field.type) for field in SCHEMA}
    assert list(read_frame([empty, write(SECOND, tmp_path / "part-1.jsonl")], columns)["row"]) == [2]


def test_what_is_not_installed_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.client.resultframe.find_spec", lambda name: None)
    with pytest.raises(errors.FailedPrecondition, match="pip install pandas pyarrow"):
        require_pandas()
