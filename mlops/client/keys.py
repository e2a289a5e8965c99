"""API keys: an owner's of the own tenant, an administrator's of any."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta

from mlops import errors
from mlops.client.connection import Connection
from mlops.client.paging import pages
from mlops.client.quantities import parse_duration
from mlops.tenants.tenant import ApiKey, IssuedKey, Role
from mlops.v1 import tenants_pb2
from mlops.wire.convert import parse


class AsyncKeys:
    """`client.keys`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
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
        request = tenants_pb2.CreateApiKeyRequest(tenant=tenant, role=_role(role), name=name)
        if expires is not None:
            if not isinstance(expires, datetime):
                expires = datetime.now(UTC) + parse_duration(expires, field="expires")
            request.expires_at.FromDatetime(expires.astimezone(UTC))
        response = await self._connection.call(self._connection.tenants.CreateApiKey, request, attempts=1)
        return IssuedKey(key=parse(response.key, ApiKey), secret=response.secret)

    async def list(
        self, *, tenant: str | None = None, include_inactive: bool = False, page_size: int = 100
    ) -> AsyncIterator[ApiKey]:
        """Keys without their secrets, newest first. tenant: the caller's own where it is left out. Raises NotFound."""

        async def fetch(token: str) -> tuple[Iterable[ApiKey], str]:
            request = tenants_pb2.ListApiKeysRequest(
                tenant=tenant, include_inactive=include_inactive, page_size=page_size, page_token=token
            )
            response = await self._connection.call(self._connection.tenants.ListApiKeys, request)
            return [parse(message, ApiKey) for message in response.keys], response.next_page_token

        async for key in pages(fetch):
            yield key

    async def revoke(self, id: str) -> None:
        """Revokes a key: calls that use it fail within two seconds. Raises NotFound."""
        request = tenants_pb2.RevokeApiKeyRequest(id=id)
        await self._connection.call(self._connection.tenants.RevokeApiKey, request)


def _role(role: Role | str) -> tenants_pb2.Role.ValueType:
    if role not in tuple(Role):
        raise errors.InvalidRequest.of("role", f"{str(role)!r} is no role; use {', '.join(Role)}")
    return tenants_pb2.Role.Value(f"ROLE_{Role(role).name}")
