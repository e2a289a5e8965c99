"""The datasets of the caller's tenant, for synchronous programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from mlops.client.blocking.loop import LoopThread
from mlops.client.datasets import TRANSFER_LIMIT, AsyncDatasets
from mlops.client.upload import ProgressCallback
from mlops.jobs.dataset import Dataset, DatasetPreview, ReadOptions


class Datasets:
    """`client.datasets`."""

    def __init__(self, loop: LoopThread, datasets: AsyncDatasets) -> None:
        self._loop = loop
        self._datasets = datasets

    def upload(
        self,
        data: object,
        name: str | None = None,
        *,
        read_options: ReadOptions | None = None,
        labels: Mapping[str, str] | None = None,
        progress: ProgressCallback | None = None,
        timeout: timedelta | float | str = TRANSFER_LIMIT,
    ) -> Dataset:
        """Sends a file or a table and returns the dataset that it is.

        data: a path (CSV, Parquet, Arrow, JSON lines), or a pandas DataFrame, pyarrow Table or polars DataFrame.
        name: what the dataset is called; the file's name without its suffix where it is left out.
        read_options: how to read it; what is left out is inferred. progress: called with (bytes sent, bytes in all).
        The same bytes with the same options are the same dataset. Raises InvalidRequest, QuotaExceeded,
        ChecksumMismatch.
        """
        return self._loop.run(
            self._datasets.upload(
                data, name, read_options=read_options, labels=labels, progress=progress, timeout=timeout
            )
        )

    def register(
        self,
        uri: str,
        name: str | None = None,
        *,
        read_options: ReadOptions | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: timedelta | float | str = TRANSFER_LIMIT,
    ) -> Dataset:
        """Takes over a dataset from a URI that the gateway may read: its bytes are copied there.

        name: the URI's last part where it is left out. Raises InvalidRequest for a URI outside the allowed roots,
        NotFound, QuotaExceeded.
        """
        return self._loop.run(
            self._datasets.register(uri, name, read_options=read_options, labels=labels, timeout=timeout)
        )

    def get(self, dataset: str) -> Dataset:
        """The dataset of an id, or the newest one of a name, with its columns and their summaries. Raises NotFound."""
        return self._loop.run(self._datasets.get(dataset))

    def list(
        self,
        *,
        name: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        page_size: int = 100,
    ) -> Iterator[Dataset]:
        """The datasets that match everything given, newest first, without their columns.

        name: exact, or a prefix with a trailing "*". Further pages are fetched as the iteration reaches them.
        """
        yield from self._loop.iterate(self._datasets.list(name=name, owner=owner, labels=labels, page_size=page_size))

    def preview(self, dataset: Dataset | str, rows: int = 20, columns: Sequence[str] = ()) -> DatasetPreview:
        """The first rows (1-1000) as text; None is a missing value. Raises NotFound, InvalidRequest."""
        return self._loop.run(self._datasets.preview(dataset, rows, columns))

    def delete(self, dataset: Dataset | str) -> None:
        """Deletes a dataset by its id. Raises NotFound, and FailedPrecondition while a job uses it."""
        self._loop.run(self._datasets.delete(dataset))
