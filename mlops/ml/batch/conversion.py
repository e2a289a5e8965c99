"""Lays an input out so that any rows of it can be read: what has no types becomes a canonical Arrow file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from mlops import errors
from mlops.jobs.card import FeatureSpec, ModelCard
from mlops.jobs.dataset import ColumnKind, DataFormat, ReadOptions
from mlops.jobs.inference import BatchInferencePlan
from mlops.jobs.inputs import ACCEPTED
from mlops.ml.batch.coerce import coerced
from mlops.ml.batch.columns import carried
from mlops.ml.batch.source import ARROW, CANONICAL, PARQUET
from mlops.ml.datasets.formats import detect, unpacked
from mlops.ml.datasets.kinds import Reading, Stored, stored
from mlops.ml.datasets.refusal import refusing
from mlops.ml.datasets.source import Columns, check_names, plausible_bytes
from mlops.ml.ingest import DATA_FILE, Parking, open_columns, write_canonical
from mlops.ml.progress import Report

_SAMPLE_ROWS = 1000
# Of the texts that ought to be numbers, times or booleans, so many must be: else the column is something else.
_UNDERSTOOD_SHARE = 0.5
_PARSED = frozenset({ColumnKind.NUMERIC, ColumnKind.DATETIME, ColumnKind.BOOLEAN})
_TEXTS = frozenset({ColumnKind.TEXT, ColumnKind.CATEGORICAL})


@dataclass(frozen=True, kw_only=True)
class Laid:
    """Where the shards are read from. kinds: of columns that stayed text, since some of their values are no numbers,
    times or booleans: what they are all the same. Rows with such a value are bad rows.
    """

    path: Path
    input_format: str
    kinds: dict[str, ColumnKind] = field(default_factory=dict)


def laid_out(source: Path, plan: BatchInferencePlan, card: ModelCard, scratch: Path, out: Path, report: Report) -> Laid:
    """The bytes of a URI, as they are where possible, else as DATA_FILE in `out`.

    Raises DataInvalid for whatever is wrong with them.
    """
    if source.stat().st_size == 0:
        raise errors.DataInvalid("the file is empty")
    options, name = plan.read_options, PurePosixPath(urlsplit(plan.uri or "").path).name
    path = unpacked(source, scratch)
    form = options.format or detect(path, name)
    if form in (DataFormat.CSV, DataFormat.JSONL):
        found = options.model_copy(update={"format": form})
        _, columns = open_columns(path, name, found, scratch, report)
        return _converted(columns, plan, card, found, scratch, out)
    if form is DataFormat.ARROW and not _is_ipc_file(path):
        _rewrite_stream(path, out / DATA_FILE)
        return Laid(path=out / DATA_FILE, input_format=ARROW)
    if path != source:
        path = path.rename(out / DATA_FILE)
    return Laid(path=path, input_format=PARQUET if form is DataFormat.PARQUET else ARROW)


def _is_ipc_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"ARROW1"


def _rewrite_stream(path: Path, target: Path) -> None:
    """A stream has no table of its batches: they are copied into a file, one at a time."""
    with (
        refusing("The Arrow data cannot be read", plausible_bytes=plausible_bytes(path)),
        pa.ipc.open_stream(pa.memory_map(str(path))) as reader,
        pa.OSFile(str(target), "wb") as sink,
        pa.ipc.new_file(sink, reader.schema, options=pa.ipc.IpcWriteOptions(unify_dictionaries=True)) as writer,
    ):
        for batch in reader:
            batch.validate(full=True)
            writer.write_batch(batch)


def _converted(
    columns: Columns, plan: BatchInferencePlan, card: ModelCard, options: ReadOptions, scratch: Path, out: Path
) -> Laid:
    """The columns that are needed, one after the other. The model's kinds decide what a text stands for."""
    check_names(columns.names)
    reading = Reading(
        text_meaning=columns.text_meaning, decimal_comma=columns.decimal_comma, null_values=options.null_values
    )
    features = {feature.name: feature for feature in card.features}
    needed = {*features, *carried(plan, dict.fromkeys(columns.names)), *([plan.target] if plan.target else [])}
    parking = Parking(scratch)
    kinds: dict[str, ColumnKind] = {}
    kept: list[str] = []
    for index, name in enumerate(columns.names):
        if name not in needed:
            continue
        raw = columns.column(index)
        if not len(raw):
            raise errors.DataInvalid("the input has no rows")
        wanted = options.column_kinds.get(name)
        found = stored(name, raw, reading, wanted=wanted)
        feature = features.get(name)
        if feature is not None and wanted is None:
            found = _suited(feature, found, raw, reading)
            if found.kind not in ACCEPTED[feature.kind] and _stands_for(feature, found):
                kinds[name] = feature.kind
        kept.append(name)
        parking.add(found.array)
    if not kept:
        raise errors.DataInvalid(
            "the input has none of the columns that the model takes",
            hint=f"It has {', '.join(columns.names[:20])}. Say whether the file has a header, and its delimiter.",
        )
    write_canonical(out / DATA_FILE, kept, parking.arrays)
    return Laid(path=out / DATA_FILE, input_format=CANONICAL, kinds=kinds)


def _suited(feature: FeatureSpec, found: Stored, raw: Any, reading: Reading) -> Stored:
    """The column as the feature's kind has it, where what it looks like by itself is something else."""
    if feature.kind in _TEXTS and found.kind not in (*_TEXTS, ColumnKind.BOOLEAN):
        # Texts that all happen to look like numbers this time.
        return stored(feature.name, raw, reading, wanted=feature.kind) if _is_text(raw) else found
    if feature.kind in _PARSED and found.kind not in ACCEPTED[feature.kind] and _is_text(raw):
        texts = stored(feature.name, raw, reading, wanted=ColumnKind.TEXT).array
        if feature.kind is ColumnKind.NUMERIC:
            texts = _plain_numbers(texts, reading)
        if feature.kind is ColumnKind.BOOLEAN:
            texts = _plain_booleans(texts)
        return Stored(kind=ColumnKind.TEXT, array=texts)
    return found


def _stands_for(feature: FeatureSpec, found: Stored) -> bool:
    """Whether a text column's first values are mostly what the feature takes."""
    if feature.kind not in _PARSED or found.kind is not ColumnKind.TEXT:
        return False
    present = found.array.slice(0, _SAMPLE_ROWS).drop_null()
    unusable = len(coerced(feature, present).unusable)
    return len(present) > 0 and unusable <= (1 - _UNDERSTOOD_SHARE) * len(present)


def _is_text(raw: Any) -> bool:
    return bool(pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type))


def _plain_numbers(texts: Any, reading: Reading) -> Any:
    texts = pc.replace_substring_regex(texts, pattern=r"^\+", replacement="")
    if reading.decimal_comma:
        texts = pc.replace_substring_regex(texts, pattern=r"^([+-]?\d*),(\d+)$", replacement=r"\1.\2")
    return texts


def _plain_booleans(texts: Any) -> Any:
    for pattern, word in ((r"(?i)^(t|yes|y|1)$", "true"), (r"(?i)^(f|no|n|0)$", "false")):
        texts = pc.replace_substring_regex(texts, pattern=pattern, replacement=word)
    return texts
