"""The datasets of the caller's tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from mlops import errors
from mlops.client.connection import Connection
from mlops.client.paging import pages
from mlops.client.quantities import parse_duration
from mlops.client.upload import ProgressCallback, UploadMessages, digest, source_file
from mlops.jobs.dataset import Dataset, DatasetPreview, ReadOptions
from mlops.v1 import datasets_pb2
from mlops.wire.convert import build, parse
from mlops.wire.datasets import parse_preview

# Sending and reading a large dataset takes its time.
TRANSFER_LIMIT = timedelta(hours=2)


class AsyncDatasets:
    """`client.datasets`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def upload(
        self,
        data: object,
        name: str | None = None,
        *,
        read_options: ReadOptions | None = None,
        labels: Mapping[str, str] | None = None,
        progress: ProgressCallback | None = None,
        timeout: timedelta | float | str = TRANSFER_LIMIT,  # noqa: ASYNC109 - the blocking twin's name
    ) -> Dataset:
        """Sends a file or a table and returns the dataset that it is.

        data: a path (CSV, Parquet, Arrow, JSON lines), or a pandas DataFrame, pyarrow Table or polars DataFrame.
        name: what the dataset is called; the file's name without its suffix where it is left out.
        read_options: how to read it; what is left out is inferred. progress: called with (bytes sent, bytes in all).
        The same bytes with the same options are the same dataset. Raises InvalidRequest, QuotaExceeded,
        ChecksumMismatch.
        """
        seconds = parse_duration(timeout, field="timeout").total_seconds()
        with ExitStack() as stack:
            path = await asyncio.to_thread(stack.enter_context, source_file(data))
            if name is None and not isinstance(data, str | Path):
                raise errors.InvalidRequest.of("name", "is required for a table; say what the dataset is called")
            sha256, size = await asyncio.to_thread(digest, path)
            header = datasets_pb2.UploadHeader(
                name=name or path.name.partition(".")[0] or path.name,
                file_name=path.name,
                sha256=sha256,
                size_bytes=size,
                labels=labels,
            )
            if read_options is not None:
                header.read_options.CopyFrom(build(datasets_pb2.ReadOptions, read_options))

            async def send(remaining: float) -> datasets_pb2.UploadDatasetResponse:
                return await self._send(path, header, progress, remaining)

            # Sent again from the start when the connection broke: the same bytes are the same dataset.
            response = await self._connection.attempt(send, timeout_seconds=seconds)
            return parse(response.dataset, Dataset)

    async def _send(
        self, path: Path, header: datasets_pb2.UploadHeader, progress: ProgressCallback | None, timeout_seconds: float
    ) -> datasets_pb2.UploadDatasetResponse:
        """One try. gRPC's own thread reads the file.

        grpc.aio would lose the server's answer where it comes while a chunk is on its way: it reports its own
        "Internal error from Core" instead.
        """
        messages = UploadMessages(path, header, progress)
        method = self._connection.uploads.UploadDataset
        # Any: the published types leave `cancel` untyped.
        call: Any = method.future(messages, timeout=timeout_seconds, metadata=self._connection.metadata)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end(_: object) -> None:
            # A loop that is closed has nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)

        call.add_done_callback(end)
        try:
            await ended.wait()
        finally:
            call.cancel()  # changes nothing where it has ended
        if messages.failure is not None:
            raise messages.failure
        response: datasets_pb2.UploadDatasetResponse = call.result()
        return response

    async def register(
        self,
        uri: str,
        name: str | None = None,
        *,
        read_options: ReadOptions | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: timedelta | float | str = TRANSFER_LIMIT,  # noqa: ASYNC109 - the blocking twin's name
    ) -> Dataset:
        """Takes over a dataset from a URI that the gateway may read: its bytes are copied there.

        name: the URI's last part where it is left out. Raises InvalidRequest for a URI outside the allowed roots,
        NotFound, QuotaExceeded.
        """
        request = datasets_pb2.RegisterDatasetRequest(uri=uri, name=name or "", labels=labels)
        if read_options is not None:
            request.read_options.CopyFrom(build(datasets_pb2.ReadOptions, read_options))
        seconds = parse_duration(timeout, field="timeout").total_seconds()
        response = await self._connection.call(
            self._connection.datasets.RegisterDataset, request, timeout_seconds=seconds
        )
        return parse(response.dataset, Dataset)

    async def get(self, dataset: str) -> Dataset:
        """The dataset of an id, or the newest one of a name, with its columns and their summaries. Raises NotFound."""
        request = datasets_pb2.GetDatasetRequest(dataset=dataset)
        response = await self._connection.call(self._connection.datasets.GetDataset, request)
        return parse(response.dataset, Dataset)

    async def list(
        self,
        *,
        name: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Dataset]:
        """The datasets that match everything given, newest first, without their columns.

        name: exact, or a prefix with a trailing "*". Further pages are fetched as the iteration reaches them.
        """

        async def fetch(token: str) -> tuple[Iterable[Dataset], str]:
            request = datasets_pb2.ListDatasetsRequest(
                name=name, owner=owner, labels=labels, page_size=page_size, page_token=token
            )
            response = await self._connection.call(self._connection.datasets.ListDatasets, request)
            return [parse(message, Dataset) for message in response.datasets], response.next_page_token

        async for dataset in pages(fetch):
            yield dataset

    async def preview(self, dataset: Dataset | str, rows: int = 20, columns: Sequence[str] = ()) -> DatasetPreview:
        """The first rows (1-1000) as text; None is a missing value. Raises NotFound, InvalidRequest."""
        request = datasets_pb2.PreviewDatasetRequest(
            dataset=dataset.id if isinstance(dataset, Dataset) else dataset, rows=rows, columns=columns
        )
        return parse_preview(await self._connection.call(self._connection.datasets.PreviewDataset, request))

    async def delete(self, dataset: Dataset | str) -> None:
        """Deletes a dataset by its id. Raises NotFound, and FailedPrecondition while a job uses it."""
        request = datasets_pb2.DeleteDatasetRequest(id=dataset.id if isinstance(dataset, Dataset) else dataset)
        await self._connection.remove(self._connection.datasets.DeleteDataset, request)
