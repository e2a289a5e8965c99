"""A Frame of named columns to the rows of a model, and what the model said to a Frame."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from mlops.errors import InvalidRequest
from mlops.gateway.serving.inputs import Encoded, ModelInputs, Values, check_count
from mlops.jobs.card import ModelCard
from mlops.jobs.dataset import ColumnKind
from mlops.v1 import models_pb2 as pb
from mlops.v1 import serving_pb2

KINDS = {
    "doubles": ColumnKind.NUMERIC,
    "integers": ColumnKind.NUMERIC,
    "booleans": ColumnKind.BOOLEAN,
    "texts": ColumnKind.TEXT,
    "times": ColumnKind.DATETIME,
}
ROOT = "rows"
_NANOS = 1e9


def encode_frame(inputs: ModelInputs, frame: pb.Frame) -> Encoded:
    """The rows of a Frame, if it fits the model.

    Raises InvalidRequest with the path of each column that is wrong: rows.columns[2].
    """
    columns: dict[str, Values] = {}
    count = 0
    for index, column in enumerate(frame.columns):
        content = column.WhichOneof("content")
        if content is None:
            raise InvalidRequest.of(_path(index), f"column {column.name!r} has no values: send them, and those missing")
        values = getattr(column, content).values
        if not index:
            count = len(values)
        elif len(values) != count:
            raise InvalidRequest.of(
                _path(index), f"column {column.name!r} has {len(values)} values, the first column has {count}"
            )
        if content == "times":
            values = array("d", (moment.seconds + moment.nanos / _NANOS for moment in values))
        columns[column.name] = Values(KINDS[content], values, _missing(column, count, index))
    check_count(count, ROOT)
    if len(columns) < len(frame.columns):
        raise _twice(frame)

    def path(name: str) -> str:
        return next((_path(index) for index, column in enumerate(frame.columns) if column.name == name), ROOT)

    return inputs.encode(columns, count, path)


def decode_frame(card: ModelCard, outputs: serving_pb2.Outputs) -> pb.Frame:
    """What the model said: prediction, then probability[CLASS], score[CLASS] or score, as asked for."""
    frame = pb.Frame()
    for output in outputs.outputs:
        content = output.WhichOneof("content")
        if output.method == pb.PREDICT_METHOD_PREDICT:
            _put_labels(frame.columns.add(name="prediction"), output)
            continue
        stem = "probability" if output.method == pb.PREDICT_METHOD_PREDICT_PROBA else "score"
        numbers = doubles(output.numbers)
        if not output.columns:
            frame.columns.add(name=stem).doubles.values.extend(numbers)
        for index in range(output.columns):
            column = frame.columns.add(name=f"{stem}[{_class(card.classes, index, output.columns)}]")
            column.doubles.values.extend(numbers[index :: output.columns])
        if content is None:
            raise InvalidRequest("the model gave nothing")
    return frame


def doubles(data: bytes) -> array[float]:
    """float64 as they travel."""
    found = array("d", data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def integers(data: bytes) -> array[int]:
    """int64 as they travel."""
    found = array("q", data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _put_labels(column: pb.FrameColumn, output: serving_pb2.Output) -> None:
    content = output.WhichOneof("content")
    if content == "numbers":
        column.doubles.values.extend(doubles(output.numbers))
    elif content == "integers":
        column.integers.values.extend(integers(output.integers))
    elif content == "booleans":
        column.booleans.values.extend(map(bool, output.booleans))
    else:
        column.texts.CopyFrom(output.texts)


def _class(classes: Sequence[str], index: int, columns: int) -> str:
    # One score a pair of classes (SVC, one against one) has no class of its own.
    return classes[index] if len(classes) == columns else str(index)


def _missing(column: pb.FrameColumn, count: int, index: int) -> Sequence[int]:
    if not column.missing:
        return ()
    missing = sorted(set(column.missing))
    if not 0 <= missing[0] <= missing[-1] < count:
        raise InvalidRequest.of(f"{_path(index)}.missing", f"names a position outside of 0 to {count - 1}")
    return missing


def _twice(frame: pb.Frame) -> InvalidRequest:
    seen: set[str] = set()
    for index, column in enumerate(frame.columns):
        if column.name in seen:
            return InvalidRequest.of(_path(index), f"column {column.name!r} is there twice")
        seen.add(column.name)
    raise ValueError("no column is there twice")


def _path(index: int) -> str:
    return f"{ROOT}.columns[{index}]"
