"""A source as columns that are read one at a time, so that memory holds one column and not the table."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from mlops import errors
from mlops.jobs.dataset import DataFormat
from mlops.ml.datasets.refusal import refusing

# pandas stores an index that is not just a count as such a column; it is no feature.
_PANDAS_INDEX = re.compile(r"^__index_level_\d+__$")
_LONGEST_NAME = 500
_MOST_COLUMNS = 20_000


class TextMeaning(StrEnum):
    """What text in a source may stand for, since its format has no type for it."""

    ANYTHING = "anything"  # CSV
    TIMES = "times"  # JSON
    NOTHING = "nothing"  # Parquet and Arrow


class Columns(Protocol):
    """The columns of a source."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in order."""
        ...

    @property
    def text_meaning(self) -> TextMeaning:
        """What their texts may stand for."""
        ...

    @property
    def decimal_comma(self) -> bool:
        """Whether a text like 3,14 may be a number."""
        ...

    def column(self, index: int) -> Any:
        """One column, as a pyarrow ChunkedArray."""


class SpilledColumns:
    """Columns of an uncompressed Arrow IPC file that was written here: a map of it, which costs no memory."""

    def __init__(self, path: Path, names: tuple[str, ...], *, text_meaning: TextMeaning, decimal_comma: bool) -> None:
        """names: what the columns are called, whatever the file calls them."""
        self.names = names
        self.text_meaning = text_meaning
        self.decimal_comma = decimal_comma
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def column(self, index: int) -> Any:
        """One column."""
        return self._table.column(index)


class IpcColumns:
    """Columns of an Arrow IPC file or stream. What strangers wrote is validated in full."""

    text_meaning = TextMeaning.NOTHING
    decimal_comma = False

    def __init__(self, path: Path) -> None:
        self._path = path
        with refusing("The Arrow data cannot be read", plausible_bytes=plausible_bytes(path)):
            found = self._open([]).schema.names
        self._indices = [index for index, name in enumerate(found) if not is_pandas_index(name)]
        self.names = tuple(found[index] for index in self._indices)

    def column(self, index: int) -> Any:
        """One column."""
        with refusing(f"Column {self.names[index]!r} cannot be read", plausible_bytes=plausible_bytes(self._path)):
            column = self._open([self._indices[index]]).read_all().column(0)
            column.validate(full=True)
            return column

    def _open(self, fields: list[int]) -> Any:
        # Copies these fields and no others, where the data is compressed too. None at all stands for all.
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        mapped = pa.memory_map(str(self._path))
        is_file = mapped.read(6) == b"ARROW1"
        mapped.seek(0)
        return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(mapped, options=options)


class ParquetColumns:
    """Columns of a Parquet file."""

    text_meaning = TextMeaning.NOTHING
    decimal_comma = False

    def __init__(self, path: Path) -> None:
        self._plausible_bytes = plausible_bytes(path)
        with refusing("The Parquet data cannot be read", plausible_bytes=self._plausible_bytes):
            self._file = pq.ParquetFile(pa.memory_map(str(path)))
            schema = self._file.schema_arrow
        self.names = tuple(name for name in schema.names if not is_pandas_index(name))
        check_names(self.names)
        for field in schema:
            if pa.types.is_nested(field.type):
                refuse_type(field.name, field.type)

    def column(self, index: int) -> Any:
        """One column."""
        name = self.names[index]
        with refusing(f"Column {name!r} cannot be read", plausible_bytes=self._plausible_bytes):
            # A column called "a.b" is read along with one called "a".
            column = self._file.read(columns=[name], use_pandas_metadata=False).column(name)
            column.validate(full=True)
            return column


def is_pandas_index(name: str) -> bool:
    """Whether a column is an index without a name that pandas stored along."""
    return _PANDAS_INDEX.match(name) is not None


def plausible_bytes(path: Path) -> int:
    """The most that a file of this size may ask to be held at once: runs of equal values pack well."""
    return 1000 * path.stat().st_size + 1024**3


def check_names(names: tuple[str, ...]) -> None:
    """Raises DataInvalid unless there are columns, each with a name of its own."""
    if not names:
        raise errors.DataInvalid("The data has no columns")
    if len(names) > _MOST_COLUMNS:
        raise errors.DataInvalid(f"The data has {len(names)} columns; {_MOST_COLUMNS} is the most")
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise errors.DataInvalid(
                f"Column {position} has no name",
                hint="Name it, or leave it out; pandas writes its index so unless it is told index=False",
            )
        if name in seen:
            raise errors.DataInvalid(f"Two columns are called {name!r}", hint="Give each column a name of its own")
        if len(name) > _LONGEST_NAME:
            raise errors.DataInvalid(f"The name of column {position} is longer than {_LONGEST_NAME} characters")
        seen.add(name)


def refuse_type(name: str, found: Any) -> None:
    """Raises DataInvalid for a column of a type that no estimator takes."""
    raise errors.DataInvalid(
        f"Column {name!r} is of type {found}, which cannot be used",
        hint="Turn it into numbers, texts, booleans or times, or leave it out",
    )


def open_typed(path: Path, form: DataFormat) -> Columns:
    """The columns of a format that carries its types."""
    return ParquetColumns(path) if form is DataFormat.PARQUET else IpcColumns(path)
