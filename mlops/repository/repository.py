"""Brings registered models from the tracker into the platform's own storage, where workers and serving read them.

A CPU worker reaches storage and Temporal, and nothing else: the tracker's files are fetched here, once a model.
A logged model never changes, so that its files are stored under its id and never looked at again.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlops.jobs.card import ModelCard
from mlops.jobs.model import ModelVersion
from mlops.storage.objects import ObjectStore
from mlops.tracking.protocol import Tracking

CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class StagedModel:
    """A model whose files are in storage. `has_onnx`: model.onnx and onnx.json are there too."""

    model_id: str
    card: ModelCard
    has_onnx: bool


class ModelRepository:
    """Registered models of all tenants, by tenant."""

    def __init__(self, store: ObjectStore, tracking: Tracking) -> None:
        self._store = store
        self._tracking = tracking

    async def resolve(self, tenant: str, name: str, which: int | str | None) -> ModelVersion:
        """The version of a number or an alias; for None the champion, else the newest. Raises NotFound."""
        raise NotImplementedError

    async def stage(self, tenant: str, version: ModelVersion) -> StagedModel:
        """Makes sure that the version's files are in storage.

        Raises FailedPrecondition for a model that this platform cannot load, NotFound, and Unavailable.
        """
        raise NotImplementedError
