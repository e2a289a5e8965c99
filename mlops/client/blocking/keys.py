"""API keys, for synchronous programs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from mlops.client.blocking.loop import LoopThread
from mlops.client.keys import AsyncKeys
from mlops.tenants.tenant import ApiKey, IssuedKey, Role


class Keys:
    """`client.keys`."""

    def __init__(self, loop: LoopThread, keys: AsyncKeys) -> None:
        self._loop = loop
        self._keys = keys

    def create(
        self,
        name: str,
        *,
        role: Role | str = Role.SUBMITTER,
        tenant: str | None = None,
        expires: datetime | timedelta | str | None = None,
    ) -> IssuedKey:
        """Creates a key; its secret is in the answer and nowhere else.

        name: who or what it is for; becomes the owner of the jobs it submits. tenant: the caller's own where it is
        left out. expires: a time, or how long from now ("90d"); never where it is left out.
        Raises NotFound, InvalidRequest. Not repeated by itself when the connection breaks: a second key would be.
        """
        return self._loop.run(self._keys.create(name, role=role, tenant=tenant, expires=expires))

    def list(
        self, *, tenant: str | None = None, include_inactive: bool = False, page_size: int = 100
    ) -> Iterator[ApiKey]:
        """Keys without their secrets, newest first. tenant: the caller's own where it is left out. Raises NotFound."""
        yield from self._loop.iterate(
            self._keys.list(tenant=tenant, include_inactive=include_inactive, page_size=page_size)
        )

    def revoke(self, id: str) -> None:
        """Revokes a key: calls that use it fail within two seconds. Raises NotFound."""
        self._loop.run(self._keys.revoke(id))
