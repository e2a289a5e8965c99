"""Moving a model's aliases: the version is made ready before the alias points to it, so that nobody waits for it."""

from __future__ import annotations

import re
from contextlib import suppress

from mlops.errors import FailedPrecondition, InvalidRequest, NotFound
from mlops.gateway.serving.router import Router
from mlops.jobs.model import Model
from mlops.tracking.protocol import Tracking

ALIAS = re.compile(r"[A-Za-z0-9_.-]{1,255}\Z")
# MLflow reads these as versions.
_RESERVED = re.compile(r"(?:[0-9]+|v[0-9]+|latest)\Z", re.IGNORECASE)


class Aliases:
    """Aliases of every tenant's models, by tenant."""

    def __init__(self, *, tracking: Tracking, router: Router) -> None:
        self._tracking = tracking
        self._router = router

    async def set(self, tenant: str, name: str, alias: str, version: int) -> Model:
        """Points an alias to a version. Raises NotFound for the model or the version, and InvalidRequest."""
        if not ALIAS.fullmatch(alias) or _RESERVED.fullmatch(alias):
            raise InvalidRequest.of(
                "alias",
                f"{alias!r} is no alias: 1-255 letters, digits, dots, hyphens and underscores; neither a number, nor "
                "like v1, nor latest",
            )
        if version < 1:
            raise NotFound.of("model version", f"{name}/{version}")
        await self._tracking.find_version(tenant, name, version)
        # One that cannot be predicted with here may serve others.
        with suppress(FailedPrecondition):
            await self._router.warm(tenant, name, version)
        await self._tracking.set_alias(tenant, name, alias, version)
        return await self._changed(tenant, name, alias)

    async def delete(self, tenant: str, name: str, alias: str) -> Model:
        """Removes an alias. Raises NotFound for the model or the alias."""
        model = await self._tracking.get_model(tenant, name)
        if alias not in model.aliases:
            raise NotFound.of("model version", f"{name}@{alias}")
        await self._tracking.delete_alias(tenant, name, alias)
        return await self._changed(tenant, name, alias)

    async def _changed(self, tenant: str, name: str, alias: str) -> Model:
        self._router.forget(tenant, name, alias)
        self._router.forget(tenant, name, None)
        return await self._tracking.get_model(tenant, name)
