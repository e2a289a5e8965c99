"""The registered models of the caller's tenant, for synchronous programs."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.client.blocking.loop import LoopThread
from mlops.client.models import AsyncModels
from mlops.jobs.model import Model, ModelVersion


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
