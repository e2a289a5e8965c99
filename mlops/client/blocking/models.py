"""The registered models of the caller's tenant, for synchronous programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Unpack

from mlops.client.blocking.loop import LoopThread
from mlops.client.models import AsyncModels, TrafficOptions
from mlops.client.prediction import Prediction
from mlops.jobs.card import PredictMethod
from mlops.jobs.model import Model, ModelVersion
from mlops.jobs.report import TrainingResult
from mlops.jobs.serving import ServingFigures, Traffic, TrafficRule


class Models:
    """`client.models`."""

    def __init__(self, loop: LoopThread, models: AsyncModels) -> None:
        self._loop = loop
        self._models = models

    def list(self, *, name: str = "", page_size: int = 100) -> Iterator[Model]:
        """The models by name. name: exact, or a prefix with a trailing "*"."""
        yield from self._loop.iterate(self._models.list(name=name, page_size=page_size))

    def get(self, name: str) -> Model:
        """The model with its aliases and its newest version's number. Raises NotFound."""
        return self._loop.run(self._models.get(name))

    def versions(self, name: str, *, page_size: int = 100) -> Iterator[ModelVersion]:
        """The versions of a model, newest first, without their metrics and parameters. Raises NotFound."""
        yield from self._loop.iterate(self._models.versions(name, page_size=page_size))

    def version(self, name: str, version: int | str | None = None) -> ModelVersion:
        """A version with its metrics, parameters, signature and lineage, by number or alias.

        version: the newest one where it is left out. Raises NotFound.
        """
        return self._loop.run(self._models.version(name, version))

    def set_alias(self, name: str, alias: str, version: int) -> Model:
        """Points an alias to a version, or moves it there; predictions by that alias follow within two seconds.

        Raises NotFound, and InvalidRequest for what can be no alias.
        """
        return self._loop.run(self._models.set_alias(name, alias, version))

    def delete_alias(self, name: str, alias: str) -> None:
        """Removes an alias; the version stays. Raises NotFound."""
        self._loop.run(self._models.delete_alias(name, alias))

    def predict(
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
        return self._loop.run(
            self._models.predict(model, rows, version=version, alias=alias, outputs=outputs, request_key=request_key)
        )

    def traffic(self, name: str) -> Traffic:
        """How requests that name no version are shared out, and what shadow traffic has shown. Raises NotFound."""
        return self._loop.run(self._models.traffic(name))

    def set_traffic(self, name: str, rule: TrafficRule | None = None, **options: Unpack[TrafficOptions]) -> TrafficRule:
        """Sets the whole rule, in force within two seconds; nothing given removes it. Returns the one in force.

        rule: a TrafficRule, or its fields as keywords. Raises NotFound, InvalidRequest.
        """
        return self._loop.run(self._models.set_traffic(name, rule, **options))

    def serving_figures(self, name: str) -> ServingFigures:
        """Requests, errors, latency and batch sizes by version, of the gateway that answers. Raises NotFound."""
        return self._loop.run(self._models.serving_figures(name))
