"""The first rows of a dataset, as its workers wrote them down when they read it."""

from __future__ import annotations

import asyncio

from mlops import names
from mlops.errors import InvalidRequest
from mlops.jobs.dataset import DatasetPreview
from mlops.storage.objects import ObjectStore
from mlops.tenants.datasets import DatasetStore

DEFAULT_ROWS = 20
MAX_ROWS = 1000
# gRPC's clients take messages of 4 MiB unless they are told otherwise. Of a very wide dataset fewer rows are shown.
MAX_BYTES = 3 * 1024**2


class Previews:
    """Shows the first rows of datasets."""

    def __init__(self, *, datasets: DatasetStore, objects: ObjectStore) -> None:
        self._datasets = datasets
        self._objects = objects

    async def show(self, tenant: str, dataset: str, *, rows: int, columns: tuple[str, ...]) -> DatasetPreview:
        """Up to so many rows (0: 20) of these columns (none: all), at most 3 MiB of them.

        Raises NotFound, and InvalidRequest for more than 1000 rows or a column that it does not have.
        """
        if not 0 <= rows <= MAX_ROWS:
            raise InvalidRequest.of("rows", f"must be 1-{MAX_ROWS}, or 0 for {DEFAULT_ROWS}")
        found = await self._datasets.get(tenant, dataset)
        data = await self._objects.read_bytes(names.dataset_preview_key(tenant, found.id))
        return await asyncio.to_thread(_select, data, rows or DEFAULT_ROWS, columns)


def _select(data: bytes, rows: int, columns: tuple[str, ...]) -> DatasetPreview:
    preview = DatasetPreview.model_validate_json(data)
    positions = {name: position for position, name in enumerate(preview.columns)}
    unknown = {f"columns[{i}]": f"no column {name!r}" for i, name in enumerate(columns) if name not in positions}
    if unknown:
        raise InvalidRequest(f"{len(unknown)} columns are not in the dataset", violations=unknown)
    chosen = columns or preview.columns
    shown: list[tuple[str | None, ...]] = []
    room = MAX_BYTES
    for row in preview.rows[:rows]:
        values = tuple(row[positions[name]] for name in chosen)
        room -= sum(len(value.encode()) + 4 if value is not None else 6 for value in values)
        if room < 0:
            break
        shown.append(values)
    return DatasetPreview(columns=chosen, rows=tuple(shown))
