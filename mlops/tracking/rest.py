"""The wire to MLflow's REST API: one connection pool for all tenants, and MLflow's errors turned into ours.

MLflow's own messages are never passed on: they hold SQL with its parameters, password hashes and rows of
data among them. What is passed on is the operation, the status and MLflow's error code.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import stamina

from mlops.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidRequest,
    MlopsError,
    NotFound,
    PermissionDenied,
    TrackingUnavailable,
)
from mlops.tracking.credentials import Account

API_2 = "/api/2.0/mlflow"
API_3 = "/api/3.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"

CHUNK_BYTES = 1024 * 1024
# MLflow answers in tens of milliseconds; a minute means that it hangs.
CALL_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
# The answer to an upload comes when the server has passed it on to its own store; between two chunks it never waits.
UPLOAD_TIMEOUT = httpx.Timeout(60.0, connect=5.0, read=600.0)
# MLflow's server drops a connection after 5 idle seconds: let go of it first, so that no request meets it closing.
LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=3.0)

_MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "ENDPOINT_NOT_FOUND"})
# BAD_REQUEST is what MLflow makes of a unique key that is taken, when two calls write the same row at once.
_TAKEN = frozenset({"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS", "BAD_REQUEST"})
# What is addressed by an id that the server gave: 403 is its answer for one that is not in the workspace.
_BY_ID = frozenset({"run", "logged model"})
_STATE = frozenset({"INVALID_STATE", "RESOURCE_CONFLICT"})
_RETRY = stamina.AsyncRetryingCaller(attempts=3, timeout=30.0, wait_initial=0.1, wait_max=1.0).on(TrackingUnavailable)


class MlflowRest:
    """Calls MLflow. Holds no credential: each call brings its own."""

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # A jar that takes no cookie: a session must never outlive the call that it was made by.
        no_cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx.AsyncClient(
            base_url=url,
            cookies=no_cookies,
            timeout=CALL_TIMEOUT,
            # Failed connects are tried again, which is safe for any call.
            transport=transport or httpx.AsyncHTTPTransport(retries=1, limits=LIMITS),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all connections."""
        await self._client.aclose()

    async def get(
        self, account: Account, path: str, *, about: tuple[str, str], params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Reads. Tried again for a while when MLflow is away. `about` is the (type, name) of a NotFound."""
        return await _RETRY(self._call, account, "GET", path, about=about, params=params)

    async def query(
        self, account: Account, path: str, body: Mapping[str, Any], *, about: tuple[str, str]
    ) -> dict[str, Any]:
        """Reads by POST, which is how MLflow searches. Tried again like `get`."""
        return await _RETRY(self._call, account, "POST", path, about=about, body=body)

    async def write(
        self, account: Account, method: str, path: str, body: Mapping[str, Any], *, about: tuple[str, str]
    ) -> dict[str, Any]:
        """Changes something. Tried once: the caller knows how to find what a lost answer had made."""
        return await self._call(account, method, path, about=about, body=body)

    async def delete(
        self, account: Account, path: str, *, about: tuple[str, str], params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Deletes what a path names."""
        return await self._call(account, "DELETE", path, about=about, params=params)

    async def upload(self, account: Account, path: str, content: Path | bytes, *, about: tuple[str, str]) -> None:
        """Streams a file's content to a path below the artifact proxy."""
        headers = account.headers()
        body: AsyncIterator[bytes] | bytes
        if isinstance(content, bytes):
            body = content
        else:
            size_bytes = (await asyncio.to_thread(content.stat)).st_size
            headers["Content-Length"] = str(size_bytes)
            body = _chunks(content)
        try:
            response = await self._client.put(
                f"{ARTIFACTS}/{path}", content=body, headers=headers, timeout=UPLOAD_TIMEOUT
            )
        except httpx.TransportError as exc:
            raise _away("PUT", ARTIFACTS, exc) from exc
        _check(response, "PUT", ARTIFACTS, about)

    async def download(self, account: Account, path: str, *, max_bytes: int, about: tuple[str, str]) -> bytes:
        """A small file from the artifact proxy. Raises FailedPrecondition where it is larger than `max_bytes`."""
        return await _RETRY(self._download, account, path, max_bytes, about)

    async def stream(self, account: Account, path: str, *, about: tuple[str, str]) -> AsyncGenerator[bytes, None]:
        """A file of any size from the artifact proxy, in chunks. Tried once: a reader cannot take back what it had."""
        try:
            async with self._client.stream(
                "GET", f"{ARTIFACTS}/{path}", headers=account.headers(), timeout=UPLOAD_TIMEOUT
            ) as response:
                if response.is_error:
                    await response.aread()
                _check(response, "GET", ARTIFACTS, about)
                async for chunk in response.aiter_bytes(CHUNK_BYTES):
                    yield chunk
        except httpx.TransportError as exc:
            raise _away("GET", ARTIFACTS, exc) from exc

    async def _download(self, account: Account, path: str, max_bytes: int, about: tuple[str, str]) -> bytes:
        found = bytearray()
        try:
            async with self._client.stream("GET", f"{ARTIFACTS}/{path}", headers=account.headers()) as response:
                if response.is_error:
                    await response.aread()
                _check(response, "GET", ARTIFACTS, about)
                async for chunk in response.aiter_bytes():
                    found += chunk
                    if len(found) > max_bytes:
                        raise FailedPrecondition(f"a file of {about[0]} {about[1]!r} is over {max_bytes} bytes")
        except httpx.TransportError as exc:
            raise _away("GET", ARTIFACTS, exc) from exc
        return bytes(found)

    async def _call(
        self,
        account: Account,
        method: str,
        path: str,
        *,
        about: tuple[str, str],
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, params=params, json=body, headers=account.headers())
        except httpx.TransportError as exc:
            raise _away(method, path, exc) from exc
        _check(response, method, path, about)
        if not response.content:
            return {}
        found = _json(response)
        if not isinstance(found, dict):
            raise TrackingUnavailable(f"MLflow's answer to {method} {path} is no JSON object")
        return found


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()


def _away(method: str, path: str, exc: Exception) -> TrackingUnavailable:
    return TrackingUnavailable(f"MLflow did not answer {method} {path}: {type(exc).__name__}")


def _json(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        return None


def _check(response: httpx.Response, method: str, path: str, about: tuple[str, str]) -> None:
    if response.is_success:
        return
    found = _json(response)
    code = str(found.get("error_code", "")) if isinstance(found, dict) else ""
    raise _error(response.status_code, code, f"{method} {path}", about)


def _error(status: int, code: str, call: str, about: tuple[str, str]) -> MlopsError:
    """Ours for MLflow's. The error code goes before the status: MLflow answers 400 to much that is something else."""
    said = f"MLflow refused {call}: {status} {code}".rstrip()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return TrackingUnavailable(f"MLflow cannot answer {call} now: {status} {code}".rstrip())
    if code in _MISSING or (status == HTTPStatus.FORBIDDEN and about[0] in _BY_ID):
        return NotFound.of(*about)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return PermissionDenied(said)
    if code in _TAKEN:
        return AlreadyExists(f"{about[0]} {about[1]!r} exists already")
    if code in _STATE:
        return FailedPrecondition(said)
    if not code:
        # MLflow always says a code: this was a proxy, or another server on its port.
        return TrackingUnavailable(said)
    return InvalidRequest(said)
