"""A model's files on this host: fetched from storage below the tenant's prefix, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from mlops import names
from mlops.errors import InvalidRequest
from mlops.storage.cache import HostCache
from mlops.storage.objects import ObjectStore
from mlops.workers.serving.request import Model


class ModelFiles:
    """The files of every tenant's models, kept in the host's cache."""

    def __init__(self, store: ObjectStore, cache: HostCache) -> None:
        self._store = store
        self._cache = cache

    @asynccontextmanager
    async def held(self, model: Model) -> AsyncIterator[Path]:
        """The directory of the model's files, which stay there during the block.

        Raises NotFound and StorageUnavailable.
        """
        wanted = [names.STEP_MODEL, names.CARD_FILE]
        if model.has_onnx:
            wanted += [names.ONNX_FILE, names.ONNX_NOTES_FILE]
        async with AsyncExitStack() as stack:
            for file in wanted:
                key = names.model_key(model.tenant, model.model_id, file)
                path = await stack.enter_async_context(self._cache.hold(self._store, key))
            yield path.parent


def checked(model: Model) -> Model:
    """The model, if its tenant and its id are such: no order leads out of its tenant's prefix.

    Raises InvalidRequest.
    """
    if not names.is_tenant(model.tenant) or not names.MODEL_ID.fullmatch(model.model_id):
        raise InvalidRequest.of("model", f"{model.model_id!r} is no model of a tenant {model.tenant!r}")
    return model
