"""The Models service."""

from __future__ import annotations

from functools import partial

from mlops import names
from mlops.errors import InvalidRequest, NotFound
from mlops.gateway.access import tenant_of
from mlops.gateway.serving.aliases import Aliases
from mlops.gateway.serving.frames import decode_frame, encode_frame
from mlops.gateway.serving.inputs import Encoded
from mlops.gateway.serving.online import Online
from mlops.gateway.serving.predictions import Question
from mlops.gateway.serving.router import Target, Which
from mlops.gateway.serving.rules import Rules
from mlops.jobs.card import Engine, PredictMethod
from mlops.jobs.pages import page_size
from mlops.jobs.serving import TrafficRule
from mlops.tenants.tenant import Principal
from mlops.tracking.protocol import Tracking
from mlops.v1 import models_pb2 as pb
from mlops.wire.convert import build, parse

MAX_ALIAS_CHARS = 255
MAX_FILTER_CHARS = 200
METHODS = {
    pb.PREDICT_METHOD_PREDICT: PredictMethod.PREDICT,
    pb.PREDICT_METHOD_PREDICT_PROBA: PredictMethod.PREDICT_PROBA,
    pb.PREDICT_METHOD_DECISION_FUNCTION: PredictMethod.DECISION_FUNCTION,
}
ENGINES = {Engine.SKLEARN: pb.ENGINE_SKLEARN, Engine.ONNX: pb.ENGINE_ONNX}


class Models:
    """Serves mlops.v1.Models."""

    def __init__(self, *, tracking: Tracking, online: Online) -> None:
        self._tracking = tracking
        self._online = online
        self._aliases = Aliases(tracking=tracking, router=online.router)
        self._rules = Rules(tracking=tracking, router=online.router, traffic=online.traffic)

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
        which = _which(request, request.name)
        if which is None:
            raise InvalidRequest.of("version", "a version or an alias is required")
        version = await self._tracking.get_version(tenant_of(caller), _model(request.name), which)
        return pb.GetModelVersionResponse(version=build(pb.ModelVersion, version))

    async def set_model_alias(self, caller: Principal, request: pb.SetModelAliasRequest) -> pb.SetModelAliasResponse:
        """Points an alias to a version."""
        name = _model(request.name)
        model = await self._aliases.set(tenant_of(caller), name, request.alias, request.version)
        return pb.SetModelAliasResponse(model=build(pb.Model, model))

    async def delete_model_alias(
        self, caller: Principal, request: pb.DeleteModelAliasRequest
    ) -> pb.DeleteModelAliasResponse:
        """Removes an alias."""
        model = await self._aliases.delete(tenant_of(caller), _model(request.name), request.alias)
        return pb.DeleteModelAliasResponse(model=build(pb.Model, model))

    async def predict(self, caller: Principal, request: pb.PredictRequest, seconds: float) -> pb.PredictResponse:
        """Predicts rows of named columns."""
        question = Question(
            model=_model(request.model),
            which=_which(request, request.model),
            request_key=request.request_key,
            methods=_methods(request),
            encode=partial(_encode, request.rows),
        )
        answered = await self._online.predictions.predict(tenant_of(caller), question, seconds)
        return pb.PredictResponse(
            model=request.model,
            version=answered.target.version,
            predictions=decode_frame(answered.target.card, answered.outputs),
            engine=ENGINES[answered.engine],
            warnings=answered.encoded.warnings,
        )

    async def get_traffic(self, caller: Principal, request: pb.GetTrafficRequest) -> pb.GetTrafficResponse:
        """A model's traffic rule, and what shadow traffic has shown."""
        traffic = await self._rules.get(tenant_of(caller), _model(request.model))
        return build(pb.GetTrafficResponse, traffic)

    async def set_traffic(self, caller: Principal, request: pb.SetTrafficRequest) -> pb.SetTrafficResponse:
        """Sets a model's traffic rule."""
        rule = parse(request.rule, TrafficRule, prefix="rule")
        await self._rules.set(tenant_of(caller), _model(request.model), rule)
        return pb.SetTrafficResponse(rule=build(pb.TrafficRule, rule))

    async def get_serving_figures(
        self, caller: Principal, request: pb.GetServingFiguresRequest
    ) -> pb.GetServingFiguresResponse:
        """The figures of a model's predictions."""
        model = await self._tracking.get_model(tenant_of(caller), _model(request.model))
        return build(pb.GetServingFiguresResponse, self._online.figures.show(tenant_of(caller), model.name))


def _model(name: str) -> str:
    """A text that cannot be a model's name names none."""
    if not names.MODEL_NAME.fullmatch(name):
        raise NotFound.of("model", name)
    return name


def _which(request: pb.GetModelVersionRequest | pb.PredictRequest, name: str) -> Which:
    which = request.WhichOneof("which")
    if which is None:
        return None
    if which == "version":
        if request.version < 1:
            raise NotFound.of("model version", f"{name}/{request.version}")
        return request.version
    if not request.alias.isprintable() or not 1 <= len(request.alias) <= MAX_ALIAS_CHARS:
        raise NotFound.of("model version", f"{name}@{request.alias}")
    return request.alias


def _methods(request: pb.PredictRequest) -> tuple[PredictMethod, ...]:
    methods: list[PredictMethod] = []
    for index, number in enumerate(request.outputs):
        method = METHODS.get(number)
        if method is None:
            raise InvalidRequest.of(f"outputs[{index}]", f"{number} is no method of a model")
        if method not in methods:
            methods.append(method)
    return tuple(methods) or (PredictMethod.PREDICT,)


def _encode(rows: pb.Frame, target: Target) -> Encoded:
    return encode_frame(target.inputs, rows)
