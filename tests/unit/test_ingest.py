from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops import errors
from mlops.jobs.dataset import (
    Column,
    ColumnKind,
    DataFormat,
    DatasetPreview,
    DatasetProfile,
    IngestTask,
    ReadOptions,
)
from mlops.ml.datasets import formats, jsonlines
from mlops.ml.ingest import DATA_FILE, PREVIEW_FILE, IngestCall, ingest
from mlops.ml.progress import silent

Ingest = Callable[..., DatasetProfile]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def take(tmp_path: Path, out: Path) -> Ingest:
    """Ingests bytes under a name; options are those of ReadOptions."""

    def take(data: bytes | str, name: str = "x.csv", **options: Any) -> DatasetProfile:
        source = tmp_path / "source"
        source.write_bytes(data.encode() if isinstance(data, str) else data)
        task = IngestTask(
            tenant="acme", dataset_id="ds-1", sha256="0", source_name=name, read_options=ReadOptions(**options)
        )
        profile = ingest(IngestCall(task=task, source=source, out=out), silent)
        assert [path.name for path in sorted(tmp_path.iterdir())] == ["out", "source"], "scratch files stay"
        return profile

    return take


def table_of(out: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pa.ipc.open_file(pa.memory_map(str(out / DATA_FILE))).read_all().to_pydict()
    return found


def column_of(profile: DatasetProfile, name: str) -> Column:
    return next(column for column in profile.columns if column.name == name)


def kinds_of(profile: DatasetProfile) -> dict[str, str]:
    return {column.name: column.kind.value for column in profile.columns}


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def arrow(table: pa.Table, *, stream: bool = False, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


MIXED = pa.table(
    {
        "whole": pa.array([1, 2, 3], pa.int16()),
        "holes": pa.array([1, None, 3], pa.int64()),
        "real": pa.array([0.5, None, 2.5], pa.float32()),
        "money": pa.array([Decimal("1.50"), None, Decimal("2.25")]),
        "huge": pa.array([1, 2, 2**64 - 1], pa.uint64()),
        "truth": [True, False, True],
        "perhaps": [True, None, False],
        "word": ["b", "a", None],
        "level": pa.array(["x", "y", "x"]).dictionary_encode(),
        "rank": pa.array([3, 1, 3]).dictionary_encode(),
        "day": pa.array([0, None, 1], pa.date32()),
        "moment": pa.array([0, 1500, 2000], pa.timestamp("ms", "Europe/Berlin")),
        "wait": pa.array([1500, 0, 1], pa.duration("ms")),
        "nothing": pa.nulls(3),
    }
)


@pytest.mark.parametrize(
    ("data", "name", "found"),
    [
        (parquet(MIXED.drop_columns(["nothing"])), "x.parquet", DataFormat.PARQUET),
        (parquet(MIXED), "no-suffix", DataFormat.PARQUET),
        (arrow(MIXED), "x.feather", DataFormat.ARROW),
        (arrow(MIXED, compression="zstd"), "x.arrow", DataFormat.ARROW),
        (arrow(MIXED, stream=True), "misnamed.csv", DataFormat.ARROW),
    ],
)
def test_typed_columns_are_stored_in_one_form(
    take: Ingest, out: Path, data: bytes, name: str, found: DataFormat
) -> None:
    profile = take(data, name)
    assert (profile.format, profile.rows) == (found, 3)
    assert profile.stored_bytes == (out / DATA_FILE).stat().st_size
    assert {
        column.name: (column.kind.value, column.arrow_type.split("<")[0]) for column in profile.columns
    }.items() >= {
        "whole": ("numeric", "int64"),
        "holes": ("numeric", "double"),
        "real": ("numeric", "double"),
        "money": ("numeric", "double"),
        "huge": ("numeric", "double"),
        "truth": ("boolean", "bool"),
        "perhaps": ("categorical", "dictionary"),
        "word": ("categorical", "dictionary"),
        "level": ("categorical", "dictionary"),
        "day": ("datetime", "timestamp[us, tz=UTC]"),
        "moment": ("datetime", "timestamp[us, tz=UTC]"),
        "wait": ("numeric", "double"),
    }.items()
    stored = table_of(out)
    assert stored["whole"] == [1, 2, 3]
    assert stored["holes"][0] == 1.0
    assert math.isnan(stored["holes"][1])
    assert stored["perhaps"] == ["true", None, "false"]
    # Parquet keeps dictionaries of texts only.
    assert stored["rank"] == ([3, 1, 3] if found is DataFormat.PARQUET else ["3", "1", "3"])
    assert stored["day"] == [datetime(1970, 1, 1, tzinfo=UTC), None, datetime(1970, 1, 2, tzinfo=UTC)]
    assert stored["wait"] == [1.5, 0.0, 0.001]
    with pa.memory_map(str(out / DATA_FILE)) as mapped:
        assert pa.ipc.open_file(mapped).num_record_batches == 1


def test_csv_types_are_inferred_from_every_row(take: Ingest, out: Path) -> None:
    rows = [f"{i},{i / 2},{i % 2 == 0},c{i % 3},2024-01-{i % 28 + 1:02},note number {i}," for i in range(3000)]
    profile = take("whole,real,truth,word,day,note,empty\n" + "\n".join(rows))
    assert profile.format is DataFormat.CSV
    assert kinds_of(profile) == {
        "whole": "numeric",
        "real": "numeric",
        "truth": "boolean",
        "word": "categorical",
        "day": "datetime",
        "note": "text",
        "empty": "numeric",
    }
    assert column_of(profile, "whole").arrow_type == "int64"
    assert column_of(profile, "empty").null_count == 3000
    late = take("a,b\n" + "1,1\n" * 200_000 + "x,1.5\n")
    assert kinds_of(late) == {"a": "categorical", "b": "numeric"}
    assert column_of(late, "b").arrow_type == "double"
    assert table_of(out)["a"][-2:] == ["1", "x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;b\n1,5;x\n2,25;y\n", {"a": [1.5, 2.25], "b": ["x", "y"]}),
        ("a\tb\n1\tx, y\n2\tz\n", {"a": [1, 2], "b": ["x, y", "z"]}),
        ("a|b\n1|x\n2|y\n", {"a": [1, 2], "b": ["x", "y"]}),
        ("a b\n1 x\n2 y\n", {"a": [1, 2], "b": ["x", "y"]}),
        ('a,b\n1,"x, ""q""\nz"\n2,y\n', {"a": [1, 2], "b": ['x, "q"\nz', "y"]}),
        ("a,b\n1,'x,z'\n2,'y'\n", {"a": [1, 2], "b": ["x,z", "y"]}),
        ("a,b\r\n1,x\r\n\r\n2,y", {"a": [1, 2], "b": ["x", "y"]}),
        ("1,x\n2,y\n", {"column_1": [1, 2], "column_2": ["x", "y"]}),
        ("color,size\nred,big\nblue,small\n", {"color": ["red", "blue"], "size": ["big", "small"]}),
        ("red,big\nred,big\nred,small\n", {"column_1": ["red"] * 3, "column_2": ["big", "big", "small"]}),
        ("a\n1\n2\n", {"a": [1, 2]}),
        ("a, b\n1, x \n2, \n", {"a": [1, 2], "b": ["x", None]}),
        ("a,b\n+1,TRUE\n-2,false\n", {"a": [1.0, -2.0], "b": [True, False]}),
        ("a,b\nNA,true\nx,\n", {"a": [None, "x"], "b": ["true", None]}),
        ("n,m\n99999999999999999999,1e3\n1,2\n", {"n": [1e20, 1.0], "m": [1000.0, 2.0]}),
    ],
)
def test_csv_dialects_are_inferred(take: Ingest, out: Path, text: str, expected: dict[str, list[Any]]) -> None:
    take(text)
    assert table_of(out) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "utf-32"])
def test_csv_encodings_are_inferred(take: Ingest, out: Path, encoding: str) -> None:
    text = "größe,b\nmäßig,1\nça,2\n"
    assert list(kinds_of(take(text.encode(encoding)))) == ["größe", "b"]
    assert table_of(out)["größe"] == ["mäßig", "ça"]


def test_a_late_byte_of_another_encoding_is_read_too(take: Ingest, out: Path) -> None:
    take(b"a,b\n" + b"x,1\n" * 100_000 + "ü €,2\n".encode("cp1252"))
    assert table_of(out)["a"][-1] == "ü €"


def test_what_the_options_say_wins(take: Ingest, out: Path) -> None:
    profile = take(
        "1;'x,y';?\n2;z;3\n".encode("utf-16-le"),
        "data.bin",
        format=DataFormat.CSV,
        delimiter=";",
        quote="'",
        encoding="utf-16-le",
        has_header=False,
        null_values=("?",),
        column_kinds={"column_1": ColumnKind.CATEGORICAL},
    )
    assert kinds_of(profile)["column_1"] == "categorical"
    stored = table_of(out)
    assert stored["column_1"] == ["1", "2"]
    assert stored["column_2"] == ["x,y", "z"]
    assert stored["column_3"][1] == 3.0
    take("a,b\nNA,?\nx,y\n", null_values=("?",))
    assert table_of(out) == {"a": ["NA", "x"], "b": [None, "y"]}
    take("1,2\n3,4\n", has_header=True)
    assert table_of(out) == {"1": [3], "2": [4]}


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ("007 008", ColumnKind.CATEGORICAL, ["007", "008"]),
        ("007 008", ColumnKind.TEXT, ["007", "008"]),
        ("1 0", ColumnKind.BOOLEAN, [True, False]),
        ("yes no", ColumnKind.BOOLEAN, [True, False]),
        ("1 2.5", ColumnKind.NUMERIC, [1.0, 2.5]),
        ("0 1.5", ColumnKind.DATETIME, [datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 1, 500000, UTC)]),
        (
            "2024-01-01T01:00:00+01:00 2024-01-02T00:00:00Z",
            ColumnKind.DATETIME,
            [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)],
        ),
    ],
)
def test_a_kind_that_is_asked_for_is_given(
    take: Ingest, out: Path, values: str, kind: ColumnKind, expected: list[Any]
) -> None:
    profile = take("a,b\n" + "".join(f"{value},1\n" for value in values.split()), column_kinds={"a": kind})
    assert column_of(profile, "a").kind is kind
    assert table_of(out)["a"] == expected


@pytest.mark.parametrize(
    ("values", "kind", "named"),
    [
        ("1 x", ColumnKind.NUMERIC, "'x'"),
        ("2024-01-01 soon", ColumnKind.DATETIME, "'soon'"),
        ("yes perhaps", ColumnKind.BOOLEAN, "'perhaps'"),
        ("true NA", ColumnKind.BOOLEAN, "missing"),
        ("1e300 1", ColumnKind.DATETIME, "'a'"),
    ],
)
def test_a_kind_that_cannot_be_given_is_refused(take: Ingest, values: str, kind: ColumnKind, named: str) -> None:
    with pytest.raises(errors.DataInvalid, match=named):
        take("a,b\n" + "".join(f"{value},1\n" for value in values.split()), column_kinds={"a": kind})


def test_a_kind_for_a_column_that_is_not_there_is_refused(take: Ingest) -> None:
    with pytest.raises(errors.DataInvalid, match="'c'") as caught:
        take("a,b\n1,2\n", column_kinds={"c": ColumnKind.TEXT})
    assert "a, b" in caught.value.hint


def test_json_lines_of_changing_shape_are_read(take: Ingest, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        {"a": 1, "t": "2024-01-01T00:00:00Z", "w": "x"},
        {"a": None, "t": "2024-01-01T00:00:00.5Z"},
        {"a": 2.5, "b": True, "w": "2024-01-01 00:00:00", "t": None},
        {},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    for block in (1, 1 << 20):
        monkeypatch.setattr(jsonlines, "_BLOCK_BYTES", block)
        profile = take("\ufeff" + text, "x.jsonl")
        assert kinds_of(profile) == {"a": "numeric", "t": "datetime", "w": "categorical", "b": "categorical"}
        stored = table_of(out)
        assert stored["w"] == ["x", None, "2024-01-01 00:00:00", None]
        assert stored["t"][1] == datetime(2024, 1, 1, 0, 0, 0, 500000, UTC)
        assert stored["b"] == [None, None, "true", None]


def test_compressed_sources_are_unpacked(take: Ingest, out: Path) -> None:
    text = b"a,b\n1,x\n2,y\n"
    zstd = pa.compress(text, "zstd", asbytes=True)
    for data, name in ((gzip.compress(text) + gzip.compress(b"3,z\n"), "x.csv.gz"), (bz2.compress(text), "x.bz2")):
        take(data, name)
        assert table_of(out)["a"][:2] == [1, 2]
    take(zstd, "x.csv.zst")
    take(gzip.compress(parquet(MIXED)), "x.parquet.gz")


def test_a_source_that_grows_without_end_is_refused(take: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_GROWTH_FLOOR_BYTES", 1000)
    with pytest.raises(errors.DataInvalid, match="grows"):
        take(gzip.compress(b"a,b\n" + b"1,2\n" * 1_000_000), "x.csv.gz")


NESTED = pa.table({"fine": [1], "bad": [[1, 2]]})


@pytest.mark.parametrize(
    ("data", "name", "problem"),
    [
        (b"", "x.csv", "empty"),
        (b"\n\n", "x.csv", "empty"),
        (b"a,b\n", "x.csv", "no rows"),
        (b"a,a\n1,2\n", "x.csv", "'a'"),
        (b"a,\n1,2\n", "x.csv", "Column 2 has no name"),
        (b"a,b\n1,2\n1,2,3\n", "x.csv", "Expected 2 columns, got 3"),
        (b'a,b\n1,"2\n' + b"1,2\n" * 10, "x.csv", "never closed"),
        (b'a,b\n"1,2\n' + b"1,2\n" * 10, "x.csv", "Expected 2"),
        (b"a,b\n1,\x00\x01\x02\x00\n", "x.csv", "zero bytes"),
        (b"PK\x03\x04 and more", "x.xlsx", "Excel"),
        (b"not parquet", "x.parquet", "does not begin like it"),
        (b"PAR1 cut off", "x.parquet", "Parquet"),
        (b"ARROW1 cut off", "x.arrow", "Arrow"),
        (b"\x1f\x8b damaged", "x.csv.gz", "gzip"),
        (b'[{"a": 1}]', "x.json", "JSON array"),
        (b'{"a": 1}\n\n{"a": {"b": 1}}\n', "x.jsonl", "'a' holds a JSON object"),
        (b'{"a": 1}\n\nx\n', "x.jsonl", "Line 3 is no JSON"),
        (b'{"a": 1}\n7\n', "x.jsonl", "Line 2 is no JSON object"),
        (b'{"a": ' + b"[" * 100_000, "x.jsonl", "Line 1 is no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "x.jsonl", "Line 1 is no JSON"),
        (b'{"a": 1' + b"0" * 400 + b"}", "x.jsonl", "too large"),
        (b'{"a": "\\ud800"}', "x.jsonl", "JSON"),
        (b'{"a": "\xff"}', "x.jsonl", "JSON"),
        (b'{"a": 1}\n{"a": "x"}\n', "x.jsonl", "texts on some lines and numbers|numbers on some lines and texts"),
        (b'{"a": 1, "a": 2}\n', "x.jsonl", "specified twice"),
        (b"{}\n", "x.jsonl", "no columns"),
        (b"\n", "x.jsonl", "no columns"),
        (parquet(NESTED), "x.parquet", "'bad' is of type list"),
        (arrow(NESTED), "x.arrow", "'bad' is of type list"),
        (arrow(pa.table({"bin": [b"x"]})), "x.arrow", "'bin' is of type binary"),
        (arrow(MIXED.slice(0, 0)), "x.arrow", "no rows"),
        (parquet(MIXED.slice(0, 0)), "x.parquet", "no rows"),
        (arrow(pa.table({})), "x.arrow", "no columns"),
        (arrow(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])), "x.arrow", "'a'"),
        (arrow(pa.table({" ": [1]})), "x.arrow", "Column 1 has no name"),
        (arrow(pa.table({"t": pa.array([2**62], pa.timestamp("s"))})), "x.arrow", "'t'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(take: Ingest, data: bytes, name: str, problem: str) -> None:
    with pytest.raises(errors.DataInvalid, match=problem):
        take(data, name)


@pytest.mark.parametrize("encoding", ["no-such-encoding", "rot13", "hex", "utf-16"])
def test_an_encoding_that_does_not_fit_is_refused(take: Ingest, encoding: str) -> None:
    with pytest.raises(errors.DataInvalid, match=encoding):
        take(b"a,b\n1,2\n", encoding=encoding)


def test_the_index_of_a_pandas_frame_is_no_column(take: Ingest) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=[5, 7, 9])
    sink = io.BytesIO()
    frame.to_parquet(sink)
    assert list(kinds_of(take(sink.getvalue(), "x.parquet"))) == ["a"]


def test_a_parquet_column_with_a_dot_is_not_taken_for_a_nested_one(take: Ingest, out: Path) -> None:
    take(parquet(pa.table({"a": [1], "a.b": [2]})), "x.parquet")
    assert table_of(out) == {"a": [1], "a.b": [2]}


def test_summaries_say_what_is_in_a_column(take: Ingest) -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=500)
    real[::10] = np.nan
    frame = pd.DataFrame(
        {
            "real": real,
            "class": rng.integers(0, 3, 500),
            "hole": np.where(rng.random(500) < 0.1, np.nan, rng.integers(5, 7, 500)),
            "word": rng.choice(["b", "a"], 500),
            "truth": rng.random(500) < 0.5,
            "when": pd.date_range("2024-01-01", periods=500),
            "wide": np.arange(500),
        }
    )
    frame.loc[:4, "word"] = None
    profile = take(arrow(pa.Table.from_pandas(frame, preserve_index=False)), "x.arrow")
    found = column_of(profile, "real")
    assert found.null_count == 50
    assert found.distinct_count == 450
    assert found.minimum == frame["real"].min()
    assert found.mean == pytest.approx(frame["real"].mean())
    assert found.standard_deviation == pytest.approx(frame["real"].std(ddof=0))
    assert found.top_values == ()
    for name in ("class", "hole", "word"):
        expected = frame[name].value_counts().to_dict()
        column = column_of(profile, name)
        text = {str(key).removesuffix(".0"): count for key, count in expected.items()}
        assert {top.value: top.count for top in column.top_values} == text
        assert column.distinct_count == len(expected)
        assert column.null_count == frame[name].isna().sum()
        counts = [top.count for top in column.top_values]
        assert counts == sorted(counts, reverse=True)
    assert {top.value for top in column_of(profile, "truth").top_values} == {"true", "false"}
    when = column_of(profile, "when")
    assert (when.earliest, when.distinct_count) == (datetime(2024, 1, 1, tzinfo=UTC), 500)
    assert column_of(profile, "wide").top_values == ()


def test_the_target_candidates_of_a_long_table_are_counted_in_full(take: Ingest) -> None:
    classes = np.zeros(1_100_000, dtype=np.int64)
    classes[-1] = 7
    profile = take(arrow_of_one("y", pa.array(classes)), "x.arrow")
    assert [(top.value, top.count) for top in profile.columns[0].top_values] == [("0", 1_099_999), ("7", 1)]
    profile = take(arrow_of_one("y", pa.array(np.arange(1_100_000))), "x.arrow")
    assert not profile.columns[0].distinct_is_exact


def arrow_of_one(name: str, array: pa.Array) -> bytes:
    sink = io.BytesIO()
    table = pa.table({name: array})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_the_preview_shows_the_first_rows_as_text(take: Ingest, out: Path) -> None:
    take("a,b,t\n1.5,x,2024-01-01\n,y" + "y" * 1000 + ",\n" + "2,x,2024-01-01\n" * 2000)
    preview = DatasetPreview.model_validate_json((out / PREVIEW_FILE).read_text())
    assert preview.columns == ("a", "b", "t")
    assert preview.rows[0] == ("1.5", "x", "2024-01-01T00:00:00Z")
    assert preview.rows[1] == (None, "y" * 500 + "…", None)
    assert len(preview.rows) == 1000


def test_columns_that_wait_on_disk_are_the_same(take: Ingest, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(arrow(MIXED), "x.arrow")
    held = (out / DATA_FILE).read_bytes()
    monkeypatch.setattr("mlops.ml.ingest._HELD_BYTES", 0)
    take(arrow(MIXED), "x.arrow")
    assert (out / DATA_FILE).read_bytes() == held


FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def tolerated(take: Ingest, data: bytes, form: DataFormat) -> None:
    with contextlib.suppress(errors.DataInvalid):
        profile = take(data, "x", format=form)
        assert profile.rows > 0
        assert profile.columns


@FUZZ
@given(data=st.binary(max_size=300), form=st.sampled_from(DataFormat))
def test_random_bytes_are_read_or_refused(take: Ingest, data: bytes, form: DataFormat) -> None:
    tolerated(take, data, form)


@FUZZ
@given(text=st.text(alphabet=" \t\n\r,;|\"'abé0159.-+eE:TZ\\{}[]nulltrue", max_size=200))
def test_random_text_is_read_or_refused(take: Ingest, text: str) -> None:
    tolerated(take, text.encode(), DataFormat.CSV)
    tolerated(take, text.encode(), DataFormat.JSONL)


VALID = {
    "parquet": (parquet(MIXED), DataFormat.PARQUET),
    "arrow": (arrow(MIXED), DataFormat.ARROW),
    "stream": (arrow(MIXED, stream=True), DataFormat.ARROW),
    "compressed": (arrow(MIXED, compression="lz4"), DataFormat.ARROW),
}


@FUZZ
@given(
    kind=st.sampled_from(sorted(VALID)),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.floats(0.2, 1),
)
def test_damaged_files_are_read_or_refused(
    take: Ingest, kind: str, places: list[tuple[float, int]], cut: float
) -> None:
    data, form = VALID[kind]
    damaged = bytearray(data if cut > 0.9 else data[: int(len(data) * cut)])
    for place, value in places:
        damaged[int(place * len(damaged))] = value
    tolerated(take, bytes(damaged), form)
