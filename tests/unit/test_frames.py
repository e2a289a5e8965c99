"""Columns of Python values over the wire and back, and what a caller's tables become."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops import errors
from mlops.client.rows import rows_frame
from mlops.v1.models_pb2 import Frame
from mlops.wire.frames import build_frame, parse_frame

MOMENTS = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def columns_of(rows: int) -> st.SearchStrategy[list[Any]]:
    kinds: list[st.SearchStrategy[Any]] = [
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.booleans(),
        TEXTS,
        MOMENTS,
    ]
    return st.one_of([st.lists(st.none() | kind, min_size=rows, max_size=rows) for kind in kinds])


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    rows = draw(st.integers(0, 5))
    return draw(st.dictionaries(TEXTS, columns_of(rows), max_size=4))


# --- Python values -----------------------------------------------------------------------------


@given(tables())
def test_columns_come_back_as_they_were_sent(columns: dict[str, list[Any]]) -> None:
    found = parse_frame(Frame.FromString(build_frame(columns).SerializeToString()))
    assert found == columns
    assert {name: [type(value) for value in values] for name, values in found.items()} == {
        name: [type(value) for value in values] for name, values in columns.items()
    }


def test_missing_values_keep_their_positions_and_nan_stays_nan() -> None:
    nan = float("nan")
    frame = build_frame({"n": [1, None, 3], "f": [nan, 1.5, None], "t": ["a", nan, None], "none": [None, nan, pd.NA]})
    assert [list(column.missing) for column in frame.columns] == [[1], [2], [1, 2], [0, 1, 2]]
    assert [column.WhichOneof("content") for column in frame.columns] == ["integers", "doubles", "texts", "doubles"]
    found = parse_frame(frame)
    assert math.isnan(found["f"][0])
    assert found["n"] == [1, None, 3]
    assert found["none"] == [None, None, None]


def test_a_column_of_nothing_but_nan_says_that_it_holds_nothing() -> None:
    for rows in ({"a": [float("nan")] * 2}, pd.DataFrame({"a": [np.nan, np.nan]})):
        assert list(rows_frame(rows).columns[0].missing) == [0, 1]
    assert list(rows_frame({"a": [float("nan"), 1.0]}).columns[0].missing) == []


def test_times_travel_in_utc_and_a_naive_one_is_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    naive = datetime(2026, 3, 1, 12, 0, 0, 7)
    frame = build_frame({"t": [naive, datetime(2026, 3, 1, 12, tzinfo=berlin), date(2026, 3, 1), pd.Timestamp("1969")]})
    assert parse_frame(frame)["t"] == [
        naive.replace(tzinfo=UTC),
        datetime(2026, 3, 1, 11, tzinfo=UTC),
        datetime(2026, 3, 1, tzinfo=UTC),
        datetime(1969, 1, 1, tzinfo=UTC),
    ]


def test_whole_numbers_among_floats_become_doubles() -> None:
    assert parse_frame(build_frame({"a": [1, 2.5], "d": [Decimal("0.5"), 1]})) == {"a": [1.0, 2.5], "d": [0.5, 1.0]}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([1, "a"], r"holds numbers \(1 in row 0\) and texts \('a' in row 1\)"),
        ([None, True, 1], r"truth values \(True in row 1\) and numbers \(1 in row 2\)"),
        (["a", datetime(2026, 1, 1)], "holds texts .* and times"),
        ([1j], "holds a builtins.complex in row 0"),
        ([1, [2]], "holds a builtins.list in row 1"),
        ([b"x"], "holds a builtins.bytes"),
        ([2**63], "beyond 64 bits"),
        ([1.5, 10**400], "too large for a double"),
        (["\ud800"], "cannot be sent"),
        ([1, 2, 3], "has 3 values where the first column has 2"),
    ],
)
def test_a_column_that_cannot_be_sent_is_refused_by_its_name(values: list[Any], problem: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=problem) as caught:
        build_frame({"good": [1.0, 2.0][: len(values) if len(values) < 3 else 2], "odd": values})
    assert set(caught.value.violations) == {"odd"}


def test_every_column_that_is_wrong_is_named() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        build_frame({"a": [1, "x"], "b": [1, 2], "c": [None, 1j]})
    assert set(caught.value.violations) == {"a", "c"}


# --- callers' tables ---------------------------------------------------------------------------


def sent(rows: object) -> dict[str, list[Any]]:
    return parse_frame(rows_frame(rows))


def test_a_data_frame_of_many_dtypes_is_sent() -> None:
    frame = pd.DataFrame(
        {
            "f": np.array([1.5, np.nan], dtype="float32"),
            "i": np.array([1, 2], dtype="uint8"),
            "b": [True, False],
            "s": ["a", None],
            "c": pd.Categorical(["x", None]),
            "numbered": pd.Categorical([1.0, 2.5]),
            "truths": pd.Categorical([True, False]),
            "t": pd.to_datetime(["2026-01-01", "NaT"]),
            "z": pd.to_datetime(["2026-01-01", "2026-07-01"]).tz_localize("Europe/Berlin"),
            "I": pd.array([1, None], dtype="Int64"),
            "B": pd.array([True, None], dtype="boolean"),
            "o": np.array([1, None], dtype=object),
            "none": np.array([None, None], dtype=object),
            7: pd.array(["x", None], dtype="string"),
            "a": pd.Series(["2026-01-01", None], dtype=pd.ArrowDtype(pa.timestamp("ns")), index=[5, 3]),
        },
        index=[5, 3],
    )
    found = sent(frame)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    assert found["f"][0] == 1.5
    assert math.isnan(found["f"][1])
    del found["f"]
    assert found == {
        "i": [1, 2],
        "b": [True, False],
        "s": ["a", None],
        "c": ["x", None],
        "numbered": ["1", "2.5"],
        "truths": ["true", "false"],
        "t": [first, None],
        "z": [datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 6, 30, 22, tzinfo=UTC)],
        "I": [1, None],
        "B": [True, None],
        "o": [1, None],
        "none": [None, None],
        "7": ["x", None],
        "a": [first, None],
    }


def test_a_data_frame_of_one_dtype_is_sent_column_by_column() -> None:
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "b"])
    assert sent(frame) == {"a": [0.0, 2.0, 4.0], "b": [1.0, 3.0, 5.0]}


def test_whole_numbers_beside_floats_stay_whole() -> None:
    found = sent(pd.DataFrame({"n": [2**60 + 1, 2], "f": [0.5, 1.5]}))
    assert found == {"n": [2**60 + 1, 2], "f": [0.5, 1.5]}
    assert type(found["n"][1]) is int


def test_an_arrow_table_is_sent() -> None:
    table = pa.table(
        {
            "i": pa.array([1, None], pa.int8()),
            "c": pa.array(["x", None]).dictionary_encode(),
            "n": pa.array([1, 2]).dictionary_encode(),
            "t": pa.array([1_000_000_001, None], pa.timestamp("ns", "Europe/Berlin")),
            "s": pa.array([None, None], pa.null()),
        }
    )
    moment = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert sent(table) == {
        "i": [1, None],
        "c": ["x", None],
        "n": ["1", "2"],
        "t": [moment, None],
        "s": [None, None],
    }


def test_rows_of_dicts_become_columns_and_what_a_row_lacks_is_missing() -> None:
    assert sent([{"a": 1}, {"b": "x", "a": 2}, {"b": "y"}]) == {"a": [1, 2, None], "b": [None, "x", "y"]}


def test_a_mapping_may_hold_arrays() -> None:
    columns = {"n": np.array([1, 2]), "t": np.array(["2026-01-01", "NaT"], dtype="datetime64[ns]"), "s": ("a", "b")}
    assert sent(columns) == {"n": [1, 2], "t": [datetime(2026, 1, 1, tzinfo=UTC), None], "s": ["a", "b"]}
    assert sent({"n": [np.int64(3), np.float32(0.5), np.datetime64("NaT")]}) == {"n": [3.0, 0.5, None]}


def test_anything_that_turns_into_an_arrow_table_is_sent() -> None:
    class Polarised:
        def to_arrow(self) -> Any:
            return pa.table({"a": [1]})

    assert sent(Polarised()) == {"a": [1]}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (3, "builtins.int is no table"),
        ("text", "builtins.str is no table"),
        (np.zeros((2, 2)), "numpy.ndarray is no table"),
        ([{"a": 1}, 2], "row 1 is a int"),
        ({"a": 1}, "is no list of values"),
        ({"a": "xy"}, "is no list of values"),
        ({"a": np.zeros((2, 2))}, "other than one dimension"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "is there twice"),
        (pd.DataFrame({"a": pd.to_timedelta([1, 2])}), "has dtype timedelta64"),
        (pd.DataFrame({"a": pd.period_range("2026", periods=2)}), "pandas.*Period in row 0"),
        (pd.DataFrame({"a": [1, "x"]}), "column 'a' holds numbers .* and texts"),
        ({"t": np.array(["20000-01-01"], dtype="datetime64[s]")}, "outside of the years 1 to 9999"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_of_sendable_columns_is_refused(rows: object, problem: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=problem):
        rows_frame(rows)


def test_plain_rows_need_neither_pandas_nor_numpy_nor_pyarrow() -> None:
    code = (
        "import sys; from mlops.client.rows import rows_frame; from mlops.client.prediction import shaped_like; "
        "rows_frame([{'a': 1, 'b': None}]); rows_frame({'a': ['x']}); "
        "print([m for m in ('numpy', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
