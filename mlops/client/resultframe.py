"""The files of a batch job's result as one pandas DataFrame."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops import errors

if TYPE_CHECKING:
    import pandas as pd

_TIMESTAMP = re.compile(r"^timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]$")


def require_pandas() -> None:
    """Raises FailedPrecondition where what makes a DataFrame is not installed: before hours are waited for one."""
    missing = [package for package in ("pandas", "pyarrow") if find_spec(package) is None]
    if missing:
        raise errors.FailedPrecondition(
            f"a DataFrame needs {' and '.join(missing)}: pip install {' '.join(missing)}, "
            "or fetch the files with download()"
        )


def read_frame(paths: Sequence[Path], columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows of all files, one after another.

    columns: name and Arrow type of each column, as the job reports them: CSV and JSON lines do not say them.
    """
    import pandas as pd
    import pyarrow as pa

    if not paths:
        return pd.DataFrame(columns=list(columns))
    tables = [_read(path, columns) for path in paths]
    frame: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
    return frame


def _read(path: Path, columns: Mapping[str, str]) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path)
    if suffix == ".csv":
        from pyarrow import csv

        types = _types(columns)
        convert = csv.ConvertOptions(column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False)
        return csv.read_csv(path, convert_options=convert)
    if suffix == ".jsonl":
        return _read_json_lines(path, columns)
    import pyarrow as pa

    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _read_json_lines(path: Path, columns: Mapping[str, str]) -> Any:
    import pyarrow as pa
    from pyarrow import json

    schema = pa.schema(list(_types(columns).items()))
    if path.stat().st_size == 0:
        return schema.empty_table()
    table = json.read_json(path, parse_options=json.ParseOptions(explicit_schema=schema))
    with path.open(encoding="utf-8") as file:
        # What is told of the types comes without an order.
        return table.select(list(loads(file.readline())))


def _types(columns: Mapping[str, str]) -> dict[str, Any]:
    """The types that a text form needs to be told; others are found out."""
    import pyarrow as pa

    found: dict[str, Any] = {}
    for name, text in columns.items():
        moment = _TIMESTAMP.match(text)
        if moment:
            found[name] = pa.timestamp(moment[1], moment[2])
        elif text.startswith("dictionary"):
            found[name] = pa.string()
        elif text == "date32[day]":
            found[name] = pa.date32()
        elif text in ("double", "float", "int64", "int32", "bool", "string", "large_string"):
            found[name] = getattr(pa, {"double": "float64", "float": "float32", "bool": "bool_"}.get(text, text))()
    return found
