"""The registered models of the caller's tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from mlops.client.connection import Connection
from mlops.client.paging import pages
from mlops.jobs.model import Model, ModelVersion
from mlops.v1 import models_pb2
from mlops.wire.convert import parse


class AsyncModels:
    """`client.models`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self, *, name: str = "", page_size: int = 100) -> AsyncIterator[Model]:
        """The models by name. name: exact, or a prefix with a trailing "*"."""

        async def fetch(token: str) -> tuple[Iterable[Model], str]:
            request = models_pb2.ListModelsRequest(name=name, page_size=page_size, page_token=token)
            response = await self._connection.call(self._connection.models.ListModels, request)
            return [parse(message, Model) for message in response.models], response.next_page_token

        async for model in pages(fetch):
            yield model

    async def get(self, name: str) -> Model:
        """The model with its aliases and its newest version's number. Raises NotFound."""
        request = models_pb2.GetModelRequest(name=name)
        return parse((await self._connection.call(self._connection.models.GetModel, request)).model, Model)

    async def versions(self, name: str, *, page_size: int = 100) -> AsyncIterator[ModelVersion]:
        """The versions of a model, newest first, without their metrics and parameters. Raises NotFound."""

        async def fetch(token: str) -> tuple[Iterable[ModelVersion], str]:
            request = models_pb2.ListModelVersionsRequest(name=name, page_size=page_size, page_token=token)
            response = await self._connection.call(self._connection.models.ListModelVersions, request)
            return [parse(message, ModelVersion) for message in response.versions], response.next_page_token

        async for version in pages(fetch):
            yield version

    async def version(self, name: str, version: int | str | None = None) -> ModelVersion:
        """A version with its metrics, parameters, signature and lineage, by number or alias.

        version: the newest one where it is left out. Raises NotFound.
        """
        if version is None:
            version = (await self.get(name)).latest_version
        request = models_pb2.GetModelVersionRequest(name=name)
        if isinstance(version, int):
            request.version = version
        else:
            request.alias = version
        response = await self._connection.call(self._connection.models.GetModelVersion, request)
        return parse(response.version, ModelVersion)
