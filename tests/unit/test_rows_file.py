"""Rows as they are typed, or stand in a file, for `mlops predict`."""

from __future__ import annotations

import io
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops import errors
from mlops.cli.rowsfile import STDIN, read_rows, typed_columns

TYPES = {"age": "double", "zip": "string", "joined": "double", "paid": "boolean"}


def read(path: Path, *, format: str | None = None, delimiter: str = ",", types: dict[str, str] | None = None) -> Any:
    return read_rows(path, format=format, delimiter=delimiter, types=TYPES if types is None else types)


def test_a_csv_column_is_read_as_the_model_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "\ufeffage,zip,joined,paid,other\n44,01234,2026-01-01,1,7\n,true,,false,\n1e3,5,2026-02-01T12:00:00Z,TRUE,x\n"
    )
    found = read(path)
    assert found["age"] == [44.0, None, 1000.0]
    assert found["zip"] == ["01234", "true", "5"]
    assert found["joined"][0] == datetime(2026, 1, 1)
    assert found["joined"][1] is None
    assert found["paid"] == [True, False, True]
    assert found["other"] == ["7", None, "x"]


def test_without_a_signature_numbers_and_truth_values_are_found_out() -> None:
    cells = {"i": ["1", "-2"], "f": ["1", "2.5"], "b": ["true", "False"], "s": ["1", "x"], "d": ["2026-01-01"] * 2}
    assert typed_columns(cells, {}) == {
        "i": [1, -2],
        "f": [1.0, 2.5],
        "b": [True, False],
        "s": ["1", "x"],
        "d": ["2026-01-01"] * 2,
    }
    assert typed_columns({"n": ["1_000"]}, {}) == {"n": ["1_000"]}
    assert typed_columns({"n": [str(2**70)]}, {}) == {"n": [float(2**70)]}


def test_a_value_that_the_model_does_not_take_stays_what_was_typed() -> None:
    assert typed_columns({"age": ["old"], "paid": ["2"]}, TYPES) == {"age": ["old"], "paid": ["2"]}


def test_json_is_rows_or_columns_or_one_row(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text, meant in (
        ('[{"age": 1}, {"age": null}]', [{"age": 1}, {"age": None}]),
        ('{"age": [1, 2]}', {"age": [1, 2]}),
        ('{"age": 1, "zip": "01"}', [{"age": 1, "zip": "01"}]),
    ):
        path.write_text(text)
        assert read(path) == meant
    lines = tmp_path / "x.jsonl"
    lines.write_text('{"age": 1}\n\n{"age": 2}\n')
    assert read(lines) == [{"age": 1}, {"age": 2}]
    lines.write_text('{"age": 1}\n')
    assert read(lines) == [{"age": 1}]


def test_parquet_is_handed_on_as_a_table(tmp_path: Path) -> None:
    table = pa.table({"age": [1, 2]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet").equals(table)


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (b"zip\n01\n", {"zip": ["01"]}),
        (b' [{"zip": "01"}]', [{"zip": "01"}]),
        (b'{"zip": "01"}\n{"zip": "02"}\n', [{"zip": "01"}, {"zip": "02"}]),
        (b'{"zip": ["01", "02"]}', {"zip": ["01", "02"]}),
        (b'{"zip": "01"}', [{"zip": "01"}]),
    ],
)
def test_what_comes_on_standard_input_is_known_by_its_beginning(
    content: bytes, meant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert read(STDIN) == meant


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"a,b\n1\n", "row 0 of .* has 1 cells where the header has 2"),
        ("x.csv", b"a,a\n1,2\n", "the column 'a' twice"),
        ("x.csv", b'a\n"b', "is no CSV"),
        ("x.csv", b"\xff\xfe", "is not UTF-8"),
        ("x.json", b"{", "is no JSON"),
        ("x.json", b"3", "holds neither"),
        ("x.jsonl", b"{}\nx\n", "is no JSON"),
        ("x.parquet", b"PAR1", "is no Parquet"),
        ("x.dat", b"a\n1\n", "say --format"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(name: str, content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(errors.InvalidRequest, match=problem):
        read(path)
    with pytest.raises(errors.InvalidRequest, match="cannot be read"):
        read(tmp_path / f"no-{name}")
