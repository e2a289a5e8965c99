"""The Datasets service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from mlops.errors import InvalidRequest
from mlops.gateway.access import tenant_of
from mlops.gateway.headers import Registration, UploadHeader
from mlops.gateway.intake import Intake
from mlops.gateway.previews import Previews
from mlops.tenants.datasets import DatasetStore
from mlops.tenants.tenant import Principal
from mlops.v1 import datasets_pb2 as pb
from mlops.wire.convert import build, parse
from mlops.wire.datasets import build_preview


class Datasets:
    """Serves mlops.v1.Datasets."""

    def __init__(self, *, datasets: DatasetStore, intake: Intake, previews: Previews) -> None:
        self._datasets = datasets
        self._intake = intake
        self._previews = previews

    async def upload_dataset(
        self, caller: Principal, requests: AsyncIterator[pb.UploadDatasetRequest]
    ) -> pb.UploadDatasetResponse:
        """Takes in what is sent: a header, then the bytes."""
        header = await _header(requests)
        dataset = await self._intake.upload(tenant_of(caller), caller.name, header, _chunks(requests))
        return pb.UploadDatasetResponse(dataset=build(pb.Dataset, dataset))

    async def register_dataset(
        self, caller: Principal, request: pb.RegisterDatasetRequest
    ) -> pb.RegisterDatasetResponse:
        """Takes in what is at a URI."""
        asked = parse(request, Registration)
        dataset = await self._intake.register(tenant_of(caller), caller.name, asked)
        return pb.RegisterDatasetResponse(dataset=build(pb.Dataset, dataset))

    async def get_dataset(self, caller: Principal, request: pb.GetDatasetRequest) -> pb.GetDatasetResponse:
        """One dataset by its id or a name."""
        dataset = await self._datasets.get(tenant_of(caller), request.dataset)
        return pb.GetDatasetResponse(dataset=build(pb.Dataset, dataset))

    async def list_datasets(self, caller: Principal, request: pb.ListDatasetsRequest) -> pb.ListDatasetsResponse:
        """One page of datasets."""
        page, token, total = await self._datasets.list(
            tenant_of(caller),
            name=request.name,
            owner=request.owner,
            labels=dict(request.labels),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        shown = [build(pb.Dataset, dataset) for dataset in page]
        return pb.ListDatasetsResponse(datasets=shown, next_page_token=token, total_count=total)

    async def preview_dataset(self, caller: Principal, request: pb.PreviewDatasetRequest) -> pb.PreviewDatasetResponse:
        """The first rows of a dataset."""
        columns = tuple(request.columns)
        preview = await self._previews.show(tenant_of(caller), request.dataset, rows=request.rows, columns=columns)
        return build_preview(preview)

    async def delete_dataset(self, caller: Principal, request: pb.DeleteDatasetRequest) -> pb.DeleteDatasetResponse:
        """Deletes a dataset by its id."""
        await self._intake.delete(tenant_of(caller), request.id)
        return pb.DeleteDatasetResponse()


async def _header(requests: AsyncIterator[pb.UploadDatasetRequest]) -> UploadHeader:
    first = await anext(requests, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidRequest.of("header", "must be the first message of an upload")
    return parse(first.header, UploadHeader, prefix="header")


async def _chunks(requests: AsyncIterator[pb.UploadDatasetRequest]) -> AsyncGenerator[bytes, None]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidRequest.of("chunk", "is what every message behind the header must hold")
        yield request.chunk
