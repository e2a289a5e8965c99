"""The Models service."""

from __future__ import annotations

from mlops import names
from mlops.errors import InvalidRequest, NotFound
from mlops.gateway.access import tenant_of
from mlops.jobs.pages import page_size
from mlops.tenants.tenant import Principal
from mlops.tracking.protocol import Tracking
from mlops.v1 import models_pb2 as pb
from mlops.wire.convert import build

MAX_ALIAS_CHARS = 255
MAX_FILTER_CHARS = 200


class Models:
    """Serves mlops.v1.Models."""

    def __init__(self, *, tracking: Tracking) -> None:
        self._tracking = tracking

    async def list_models(self, caller: Principal, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        """One page of models."""
        if len(request.name) > MAX_FILTER_CHARS:
            raise InvalidRequest.of("name", f"must have at most {MAX_FILTER_CHARS} characters")
        size = page_size(request.page_size)
        page, token = await self._tracking.list_models(
            tenant_of(caller), name=request.name, page_size=size, page_token=request.page_token
        )
        return pb.ListModelsResponse(models=[build(pb.Model, model) for model in page], next_page_token=token)

    async def get_model(self, caller: Principal, request: pb.GetModelRequest) -> pb.GetModelResponse:
        """One model."""
        model = await self._tracking.get_model(tenant_of(caller), _model(request.name))
        return pb.GetModelResponse(model=build(pb.Model, model))

    async def list_model_versions(
        self, caller: Principal, request: pb.ListModelVersionsRequest
    ) -> pb.ListModelVersionsResponse:
        """One page of a model's versions."""
        name, size = _model(request.name), page_size(request.page_size)
        page, token = await self._tracking.list_versions(
            tenant_of(caller), name, page_size=size, page_token=request.page_token
        )
        shown = [build(pb.ModelVersion, version) for version in page]
        return pb.ListModelVersionsResponse(versions=shown, next_page_token=token)

    async def get_model_version(
        self, caller: Principal, request: pb.GetModelVersionRequest
    ) -> pb.GetModelVersionResponse:
        """One version by its number or an alias."""
        version = await self._tracking.get_version(tenant_of(caller), _model(request.name), _which(request))
        return pb.GetModelVersionResponse(version=build(pb.ModelVersion, version))


def _model(name: str) -> str:
    """A text that cannot be a model's name names none."""
    if not names.MODEL_NAME.fullmatch(name):
        raise NotFound.of("model", name)
    return name


def _which(request: pb.GetModelVersionRequest) -> int | str:
    which = request.WhichOneof("which")
    if which is None:
        raise InvalidRequest.of("version", "a version or an alias is required")
    if which == "version":
        if request.version < 1:
            raise NotFound.of("model version", f"{request.name}/{request.version}")
        return request.version
    if not request.alias.isprintable() or not 1 <= len(request.alias) <= MAX_ALIAS_CHARS:
        raise NotFound.of("model version", f"{request.name}@{request.alias}")
    return request.alias
