"""How a CSV source is written: encoding, delimiter, quote, header."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlops import errors
from mlops.jobs.dataset import ReadOptions

_SAMPLE_BYTES = 256 * 1024
_SAMPLE_ROWS = 300
_LIKELY_DELIMITERS = (",", "\t", ";", "|")
_LESS_LIKELY_DELIMITERS = (" ", ":")
_SAME_WIDTH_SHARE = 0.9
_BOMS = (
    (codecs.BOM_UTF8, "utf8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The last one decodes anything.
_ENCODINGS = ("utf8", "cp1252", "latin-1")
_UTF8 = frozenset({"utf-8", "utf-8-sig", "ascii"})
_NUMBER = re.compile(r"^\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*$")
_DATE = re.compile(r"^\s*\d{4}-\d\d-\d\d")
_SINGLE_QUOTED = re.compile(r"(?:^|[,;\t|])\s*'[^'\n]*'\s*(?:$|[,;\t|])", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a CSV source is written. `names` are its column names, made up where it has no header."""

    encoding: str
    delimiter: str
    quote: str
    has_header: bool
    names: tuple[str, ...]


def encodings(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """The encodings to try, in this order. Raises DataInvalid for one that does not exist, and for what is no text."""
    if options.encoding is not None:
        try:
            name = codecs.lookup(options.encoding).name
            "a".encode(name)
        except (LookupError, UnicodeError, TypeError, ValueError) as exc:
            raise errors.DataInvalid(
                f"{options.encoding!r} is no text encoding that is known", hint="utf-8, latin-1 and utf-16 are"
            ) from exc
        return ("utf8",) if name in _UTF8 else (name,)
    sample = _sample(path)
    for mark, encoding in _BOMS:
        if sample.startswith(mark):
            return (encoding,)
    if b"\0" in sample:
        # Western text in UTF-16 has a zero in every other byte.
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if max(even, odd) > 0.3 * len(sample) / 2 and min(even, odd) == 0:
            return ("utf-16-be" if even else "utf-16-le",)
        raise errors.DataInvalid(
            "The file is no text: it holds zero bytes", hint="CSV, Parquet, Arrow IPC and JSON lines are read"
        )
    return _ENCODINGS


def sniff(path: Path, options: ReadOptions, encoding: str) -> Dialect:
    """The dialect, inferred from the file's beginning where the options leave it open.

    Raises UnicodeError where the beginning is not of that encoding, DataInvalid where there is no row.
    """
    raw = _sample(path)
    text = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf8" else encoding)().decode(raw)
    if len(raw) == _SAMPLE_BYTES:
        # The last line is cut off.
        text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text
    quotes = [options.quote] if options.quote else ['"']
    if options.quote is None and '"' not in text and _SINGLE_QUOTED.search(text):
        quotes = ["'", '"']
    delimiters = [options.delimiter] if options.delimiter else list(_LIKELY_DELIMITERS)
    delimiter, quote, rows = _best(text, delimiters, quotes)
    if options.delimiter is None and delimiter is None:
        delimiter, quote, rows = _best(text, list(_LESS_LIKELY_DELIMITERS), quotes)
    if delimiter is None:
        delimiter, quote = options.delimiter or ",", quotes[0]
        rows = list(_rows(text, delimiter, quote))
    if not rows:
        raise errors.DataInvalid("The file is empty")
    has_header = options.has_header if options.has_header is not None else _looks_like_header(rows)
    first = rows[0]
    names = tuple(cell.strip() for cell in first) if has_header else _made_up(len(first))
    return Dialect(encoding=encoding, delimiter=delimiter, quote=quote, has_header=has_header, names=names)


def _sample(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_SAMPLE_BYTES)


def _made_up(count: int) -> tuple[str, ...]:
    return tuple(f"column_{number}" for number in range(1, count + 1))


def _rows(text: str, delimiter: str, quote: str) -> Iterator[list[str]]:
    """The first rows, without empty lines; nothing where the text cannot be of that dialect."""
    try:
        found = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, quotechar=quote)
        for row in found:
            if row:
                yield row
            if found.line_num > _SAMPLE_ROWS:
                return
    except (csv.Error, TypeError, ValueError):
        return


def _best(text: str, delimiters: list[str], quotes: list[str]) -> tuple[str | None, str, list[list[str]]]:
    """The pair that gives the most rows of one width, then the most numbers, then the most columns."""
    best: tuple[tuple[float, float, int], str | None, str, list[list[str]]] = ((0.0, 0.0, 0), None, quotes[0], [])
    for delimiter in delimiters:
        for quote in quotes:
            rows = list(_rows(text, delimiter, quote))
            if not rows:
                continue
            (width, count), *_ = Counter(len(row) for row in rows).most_common(1)
            share = count / len(rows)
            if width < 2 or share < _SAME_WIDTH_SHARE:
                continue
            cells = [cell for row in rows for cell in row]
            score = (share, sum(1 for cell in cells if _NUMBER.match(cell)) / len(cells), width)
            if score > best[0]:
                best = (score, delimiter, quote, rows)
    return best[1:]


def _looks_like_header(rows: list[list[str]]) -> bool:
    """No number or date among the cells of the first row. Where all is text: most of them never again below."""
    cells = [cell.strip() for cell in rows[0]]
    if not any(cells) or any(_NUMBER.match(cell) or _DATE.match(cell) for cell in cells if cell):
        return False
    columns = [[row[index].strip() for row in rows[1:] if index < len(row)] for index in range(len(cells))]
    if any(_NUMBER.match(value) or _DATE.match(value) for column in columns for value in column):
        return True
    again = sum(1 for cell, column in zip(cells, columns, strict=True) if cell in column)
    return again * 2 <= len(cells)
