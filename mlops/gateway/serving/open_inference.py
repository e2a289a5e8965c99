"""The Open Inference Protocol's service: predictions for its unmodified clients."""

from __future__ import annotations

from functools import partial

from mlops import __version__, names
from mlops.errors import FailedPrecondition, InvalidRequest, NotFound
from mlops.gateway.access import tenant_of
from mlops.gateway.serving.hosts import Hosts
from mlops.gateway.serving.inputs import Encoded
from mlops.gateway.serving.predictions import Predictions, Question
from mlops.gateway.serving.router import Router, Target, Which, selector
from mlops.gateway.serving.tensors import decode_tensors, encode_tensors
from mlops.jobs.card import LabelType, PredictMethod
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.pages import MAX_PAGE_SIZE
from mlops.tenants.tenant import Principal
from mlops.tracking.protocol import Tracking
from mlops.v1 import open_inference_pb2 as pb

SERVER = "mlops"
PLATFORM = "sklearn"
ANY = -1
MAX_ALIAS_CHARS = 255
INPUT_TYPES = {
    ColumnKind.NUMERIC: "FP64",
    ColumnKind.BOOLEAN: "BOOL",
    ColumnKind.CATEGORICAL: "BYTES",
    ColumnKind.TEXT: "BYTES",
    # Seconds since 1970 in UTC.
    ColumnKind.DATETIME: "FP64",
}
LABEL_TYPES = {
    LabelType.DOUBLE: "FP64",
    LabelType.LONG: "INT64",
    LabelType.BOOLEAN: "BOOL",
    LabelType.STRING: "BYTES",
}


class OpenInference:
    """Serves inference.GRPCInferenceService."""

    def __init__(self, *, predictions: Predictions, router: Router, hosts: Hosts, tracking: Tracking) -> None:
        self._predictions = predictions
        self._router = router
        self._hosts = hosts
        self._tracking = tracking

    async def server_live(self, caller: Principal, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """It is."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, caller: Principal, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Whether a serving host answers."""
        return pb.ServerReadyResponse(ready=self._hosts.are_ready)

    async def server_metadata(self, caller: Principal, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Name and version."""
        return pb.ServerMetadataResponse(name=SERVER, version=__version__)

    async def model_ready(self, caller: Principal, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether the model is there, can be loaded, and a host answers."""
        try:
            await self._target(caller, request.name, request.version)
        except (NotFound, FailedPrecondition):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._hosts.are_ready)

    async def model_metadata(self, caller: Principal, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """A model's versions, inputs and outputs."""
        target = await self._target(caller, request.name, request.version)
        versions, _ = await self._tracking.list_versions(
            tenant_of(caller), request.name, page_size=MAX_PAGE_SIZE, page_token=""
        )
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=[str(version.version) for version in reversed(versions)],
            platform=PLATFORM,
            inputs=[
                tensor(name=feature.name, datatype=INPUT_TYPES[feature.kind], shape=[ANY])
                for feature in target.card.features
            ],
            outputs=[_output(target, method) for method in target.card.methods],
        )

    async def model_infer(
        self, caller: Principal, request: pb.ModelInferRequest, seconds: float
    ) -> pb.ModelInferResponse:
        """Predicts."""
        question = Question(
            model=_model(request.model_name),
            which=which_of(request.model_name, request.model_version),
            request_key=request.parameters["request_key"].string_param if request.parameters else "",
            methods=_methods(request),
            encode=partial(_encode, request),
        )
        answered = await self._predictions.predict(tenant_of(caller), question, seconds)
        response = pb.ModelInferResponse(
            model_name=request.model_name, model_version=str(answered.target.version), id=request.id
        )
        response.parameters["engine"].string_param = answered.engine.value
        decode_tensors(answered.outputs, answered.encoded.count, response)
        return response

    async def _target(self, caller: Principal, model: str, version: str) -> Target:
        route = await self._router.route(tenant_of(caller), _model(model), which_of(model, version), "")
        return route.target


def which_of(model: str, version: str) -> Which:
    """A version as the protocol names it. Raises NotFound for a text that can be neither a number nor an alias."""
    if not version.isprintable() or len(version) > MAX_ALIAS_CHARS:
        raise NotFound.of("model version", f"{model}@{version}")
    return selector(version)


def _model(name: str) -> str:
    """A text that cannot be a model's name names none."""
    if not names.MODEL_NAME.fullmatch(name):
        raise NotFound.of("model", name)
    return name


def _encode(request: pb.ModelInferRequest, target: Target) -> Encoded:
    return encode_tensors(target.inputs, request)


def _methods(request: pb.ModelInferRequest) -> tuple[PredictMethod, ...]:
    methods: list[PredictMethod] = []
    for index, output in enumerate(request.outputs):
        try:
            method = PredictMethod(output.name)
        except ValueError:
            known = ", ".join(PredictMethod)
            raise InvalidRequest.of(f"outputs[{index}].name", f"{output.name!r} is none of {known}") from None
        if method in methods:
            raise InvalidRequest.of(f"outputs[{index}].name", f"{output.name!r} is there twice")
        methods.append(method)
    return tuple(methods) or (PredictMethod.PREDICT,)


def _output(target: Target, method: PredictMethod) -> pb.ModelMetadataResponse.TensorMetadata:
    card = target.card
    if method is PredictMethod.PREDICT:
        datatype, shape = LABEL_TYPES[card.label_type], [ANY]
    elif method is PredictMethod.PREDICT_PROBA:
        datatype, shape = "FP64", [ANY, len(card.classes) or ANY]
    else:
        datatype, shape = "FP64", [ANY, card.decision_columns] if card.decision_columns > 1 else [ANY]
    return pb.ModelMetadataResponse.TensorMetadata(name=method.value, datatype=datatype, shape=shape)
