"""What of the Datasets service the generic walk cannot do: previews with missing values."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.errors import InvalidRequest
from mlops.jobs.dataset import DatasetPreview
from mlops.v1 import datasets_pb2


def build_preview(preview: DatasetPreview) -> datasets_pb2.PreviewDatasetResponse:
    """The first rows; a missing value is an empty text whose position is named."""
    return datasets_pb2.PreviewDatasetResponse(
        columns=preview.columns, rows=[_build_row(values) for values in preview.rows]
    )


def _build_row(values: Sequence[str | None]) -> datasets_pb2.PreviewRow:
    return datasets_pb2.PreviewRow(
        values=[value or "" for value in values],
        missing=[position for position, value in enumerate(values) if value is None],
    )


def parse_preview(message: datasets_pb2.PreviewDatasetResponse) -> DatasetPreview:
    """The inverse of `build_preview`. Raises InvalidRequest for a missing position outside its row."""
    rows = []
    for index, row in enumerate(message.rows):
        values: list[str | None] = list(row.values)
        for position in row.missing:
            if not 0 <= position < len(values):
                raise InvalidRequest.of(f"rows[{index}].missing", f"names position {position} of {len(values)}")
            values[position] = None
        rows.append(tuple(values))
    return DatasetPreview(columns=tuple(message.columns), rows=tuple(rows))
