"""The registered models of the caller's tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypedDict, Unpack

from pydantic import ValidationError

from mlops import errors
from mlops.client.connection import MAX_MESSAGE_BYTES, Connection
from mlops.client.paging import pages
from mlops.client.prediction import Prediction, method_numbers, parse_prediction, predict_methods
from mlops.client.reference import model_reference
from mlops.client.rows import rows_frame
from mlops.jobs.card import PredictMethod
from mlops.jobs.model import Model, ModelVersion
from mlops.jobs.report import TrainingResult
from mlops.jobs.serving import ServingFigures, Traffic, TrafficRule
from mlops.v1 import models_pb2
from mlops.wire.convert import build, parse


class TrafficOptions(TypedDict, total=False):
    """The fields of a TrafficRule. What is left out is empty: the rule is set as a whole."""

    # A number or an alias; empty for the champion, else the newest version.
    champion: str
    challenger: str
    # 0 to 1, of the requests, by the hash of their key.
    challenger_share: float
    # 0 to 1, of the requests that the champion answers.
    shadow_share: float


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

    async def set_alias(self, name: str, alias: str, version: int) -> Model:
        """Points an alias to a version, or moves it there; predictions by that alias follow within two seconds.

        Raises NotFound, and InvalidRequest for what can be no alias.
        """
        request = models_pb2.SetModelAliasRequest(name=name, alias=alias, version=version)
        return parse((await self._connection.call(self._connection.models.SetModelAlias, request)).model, Model)

    async def delete_alias(self, name: str, alias: str) -> None:
        """Removes an alias; the version stays. Raises NotFound."""
        request = models_pb2.DeleteModelAliasRequest(name=name, alias=alias)
        await self._connection.remove(self._connection.models.DeleteModelAlias, request)

    async def predict(
        self,
        model: str | Model | ModelVersion | TrainingResult,
        rows: object,
        *,
        version: int | None = None,
        alias: str | None = None,
        outputs: str | PredictMethod | Sequence[PredictMethod | str] = PredictMethod.PREDICT,
        request_key: str = "",
    ) -> Prediction:
        """Predicts rows of named columns, and says which version answered and with what; see `client.predict`.

        Tried again while the platform is away, and where it sheds load and says when to come back. Raises
        InvalidRequest, NotFound, QuotaExceeded, DeadlineExceeded, FailedPrecondition.
        """
        meant = model_reference(model, version, alias)
        request = models_pb2.PredictRequest(
            model=meant.name,
            rows=rows_frame(rows),
            outputs=method_numbers(predict_methods(outputs)),
            request_key=request_key,
        )
        if meant.version is not None:
            request.version = meant.version
        elif meant.alias is not None:
            request.alias = meant.alias
        size = request.ByteSize()
        if size > MAX_MESSAGE_BYTES:
            raise errors.InvalidRequest.of(
                "rows",
                f"take {size / 1024**2:.0f} MiB, more than the {MAX_MESSAGE_BYTES // 1024**2} MiB of one call; "
                "predict them in parts, or with predict_batch",
            )
        method = self._connection.models.Predict
        return parse_prediction(await self._connection.call(method, request, when_exhausted=True))

    async def traffic(self, name: str) -> Traffic:
        """How requests that name no version are shared out, and what shadow traffic has shown. Raises NotFound."""
        request = models_pb2.GetTrafficRequest(model=name)
        return parse(await self._connection.call(self._connection.models.GetTraffic, request), Traffic)

    async def set_traffic(
        self, name: str, rule: TrafficRule | None = None, **options: Unpack[TrafficOptions]
    ) -> TrafficRule:
        """Sets the whole rule, in force within two seconds; nothing given removes it. Returns the one in force.

        rule: a TrafficRule, or its fields as keywords. Raises NotFound, InvalidRequest.
        """
        if rule is not None and options:
            raise errors.InvalidRequest.of("rule", "is given twice: say a TrafficRule or its fields, not both")
        request = models_pb2.SetTrafficRequest(
            model=name, rule=build(models_pb2.TrafficRule, rule or traffic_rule(options))
        )
        return parse((await self._connection.call(self._connection.models.SetTraffic, request)).rule, TrafficRule)

    async def serving_figures(self, name: str) -> ServingFigures:
        """Requests, errors, latency and batch sizes by version, of the gateway that answers. Raises NotFound."""
        request = models_pb2.GetServingFiguresRequest(model=name)
        return parse(await self._connection.call(self._connection.models.GetServingFigures, request), ServingFigures)


def traffic_rule(options: TrafficOptions) -> TrafficRule:
    """The rule of these fields. Raises InvalidRequest, naming each that breaks a rule."""
    try:
        return TrafficRule.model_validate(dict(options))
    except ValidationError as exc:
        violations = {str(found["loc"][0]): found["msg"] for found in exc.errors(include_url=False)}
        listed = "; ".join(f"{field}: {problem}" for field, problem in violations.items())
        raise errors.InvalidRequest(f"invalid traffic rule: {listed}", violations=violations) from exc
