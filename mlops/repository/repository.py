"""Brings registered models from the tracker into the platform's own storage, where workers and serving read them.

A CPU worker reaches storage and Temporal, and nothing else: the tracker's files are fetched here, once a model.
A logged model never changes, so that its files are stored under its id and never looked at again.
"""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from dataclasses import dataclass

from cachetools import LRUCache
from pydantic import ValidationError

from mlops import names
from mlops.errors import FailedPrecondition, InvalidRequest, NotFound
from mlops.jobs.card import ModelCard, card_from_signature
from mlops.jobs.model import ModelVersion
from mlops.storage.objects import ObjectStore
from mlops.tracking.mlmodel import MLMODEL, read_signature, skops_file
from mlops.tracking.protocol import Tracking

CHAMPION = "champion"
# Cards of wide models have megabytes.
REMEMBERED = 1000
MAX_MLMODEL_BYTES = 8 * 1024**2
MAX_CARD_BYTES = 64 * 1024**2


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
        self._staged: LRUCache[tuple[str, str], StagedModel] = LRUCache(REMEMBERED)

    async def resolve(self, tenant: str, name: str, which: int | str | None) -> ModelVersion:
        """The version of a number or an alias, as lists show it; for None the champion, else the newest.

        Raises NotFound.
        """
        if which is None:
            model = await self._tracking.get_model(tenant, name)
            which = model.aliases.get(CHAMPION, model.latest_version)
        return await self._tracking.find_version(tenant, name, which)

    async def stage(self, tenant: str, version: ModelVersion) -> StagedModel:
        """Makes sure that the version's files are in storage; the card is written last, so that it marks the rest.

        Raises FailedPrecondition for a model that this platform cannot load, NotFound, and Unavailable.
        """
        model_id = model_id_of(version)
        known = self._staged.get((tenant, model_id))
        if known is None:
            known = self._staged[tenant, model_id] = await self._stored(tenant, model_id) or await self._fetch(
                tenant, version, model_id
            )
        return known

    async def card(self, tenant: str, model_id: str) -> ModelCard:
        """The card of a model that is in storage. Raises NotFound."""
        return ModelCard.model_validate_json(
            await self._store.read_bytes(names.model_key(tenant, model_id, names.CARD_FILE))
        )

    async def _stored(self, tenant: str, model_id: str) -> StagedModel | None:
        try:
            card = await self.card(tenant, model_id)
        except NotFound:
            return None
        has_onnx = await self._store.exists(names.model_key(tenant, model_id, names.ONNX_FILE))
        return StagedModel(model_id=model_id, card=card, has_onnx=has_onnx)

    async def _fetch(self, tenant: str, version: ModelVersion, model_id: str) -> StagedModel:
        label = f"model {version.model_name!r}, version {version.version}"
        described = await self._read(tenant, version, MLMODEL, MAX_MLMODEL_BYTES)
        file = skops_file(described) if described is not None else None
        if described is None or file is None:
            raise FailedPrecondition(
                f"{label} is no scikit-learn model in skops format, and nothing else is loaded here; "
                "log it with serialization_format='skops'"
            )
        size_bytes = await self._copy(tenant, version, file, names.model_key(tenant, model_id, names.STEP_MODEL))
        if size_bytes is None:
            raise FailedPrecondition(f"{label} has no file {file!r}")
        has_onnx = (
            await self._copy(tenant, version, names.ONNX_FILE, names.model_key(tenant, model_id, names.ONNX_FILE))
            is not None
        )
        if has_onnx:
            notes = names.model_key(tenant, model_id, names.ONNX_NOTES_FILE)
            has_onnx = await self._copy(tenant, version, names.ONNX_NOTES_FILE, notes) is not None
        text = await self._read(tenant, version, names.CARD_FILE, MAX_CARD_BYTES)
        try:
            card = (
                card_from_signature(read_signature(described)) if text is None else ModelCard.model_validate_json(text)
            )
        except InvalidRequest as error:
            raise FailedPrecondition(f"{label} cannot be used: {error.message}") from error
        except ValidationError as error:
            raise FailedPrecondition(f"{label} has a {names.CARD_FILE} that is none; train it again") from error
        card = card.model_copy(update={"size_bytes": size_bytes})
        await self._store.write_bytes(
            names.model_key(tenant, model_id, names.CARD_FILE), card.model_dump_json().encode()
        )
        return StagedModel(model_id=model_id, card=card, has_onnx=has_onnx)

    async def _copy(self, tenant: str, version: ModelVersion, file: str, key: str) -> int | None:
        """The size of a file that was copied; None where there is none."""
        try:
            async with (
                aclosing(self._tracking.model_file(tenant, version, file)) as chunks,
                self._store.open_upload(key) as upload,
            ):
                async for chunk in chunks:
                    await upload.write(chunk)
                return (await upload.commit()).size_bytes
        except NotFound:
            return None

    async def _read(self, tenant: str, version: ModelVersion, file: str, max_bytes: int) -> bytes | None:
        found = bytearray()
        try:
            async with aclosing(self._tracking.model_file(tenant, version, file)) as chunks:
                async for chunk in chunks:
                    found += chunk
                    if len(found) > max_bytes:
                        raise FailedPrecondition(f"{file} of model {version.model_name!r} is over {max_bytes} bytes")
        except NotFound:
            return None
        return bytes(found)


def model_id_of(version: ModelVersion) -> str:
    """What a version's files are stored under: its logged model's id, else a hash of where its files are."""
    model_id = version.artifact_uri.removeprefix("models:/")
    if model_id != version.artifact_uri and names.LOGGED_MODEL_ID.fullmatch(model_id):
        return model_id
    return "x-" + hashlib.sha256(version.artifact_uri.encode()).hexdigest()[:32]
