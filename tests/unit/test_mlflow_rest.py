from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

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
from mlops.tracking.rest import MlflowRest

ACME = Account.of_tenant("k" * 32, "acme")
ABOUT = ("run", "r-1")


def rest(answer: Callable[[httpx.Request], httpx.Response]) -> MlflowRest:
    return MlflowRest("http://mlflow", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, {"error_code": "INTERNAL_ERROR"}, TrackingUnavailable),
        (503, {"error_code": "TEMPORARILY_UNAVAILABLE"}, TrackingUnavailable),
        (429, {}, TrackingUnavailable),
        (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}, NotFound),
        (400, {"error_code": "RESOURCE_DOES_NOT_EXIST"}, NotFound),
        (403, {}, NotFound),
        (401, {}, PermissionDenied),
        (400, {"error_code": "RESOURCE_ALREADY_EXISTS"}, AlreadyExists),
        (400, {"error_code": "INVALID_STATE"}, FailedPrecondition),
        (400, {"error_code": "INVALID_PARAMETER_VALUE"}, InvalidRequest),
        (404, {}, TrackingUnavailable),
    ],
)
async def test_mlflows_errors_become_ours_without_its_words(
    status: int, body: dict[str, str], expected: type[MlopsError]
) -> None:
    said = {**body, "message": "[SQL: INSERT …] parameters: ('ann', 'scrypt:32768:8:1$hash')"}
    async with rest(lambda _: httpx.Response(status, json=said)) as client:
        with pytest.raises(expected) as caught:
            await client.write(ACME, "POST", "/x", {}, about=ABOUT)
    assert type(caught.value) is expected
    assert "scrypt" not in str(caught.value)
    assert ACME.password not in str(caught.value)


async def test_a_403_about_what_has_no_id_is_a_refusal() -> None:
    async with rest(lambda _: httpx.Response(403, text="Permission denied")) as client:
        with pytest.raises(PermissionDenied):
            await client.write(ACME, "POST", "/x", {}, about=("experiment", "churn"))


async def test_reads_are_tried_again_and_writes_are_not() -> None:
    calls: list[str] = []

    def fail(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        raise httpx.ReadError("gone")

    async with rest(fail) as client:
        with pytest.raises(TrackingUnavailable):
            await client.get(ACME, "/x", about=ABOUT)
        assert calls == ["GET"] * 3
        with pytest.raises(TrackingUnavailable):
            await client.write(ACME, "POST", "/x", {}, about=ABOUT)
    assert calls == [*["GET"] * 3, "POST"]


async def test_each_call_carries_its_own_tenant_and_no_session_of_another() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={}, headers={"Set-Cookie": "session=acme; Path=/"})

    async with rest(answer) as client:
        await client.get(ACME, "/x", about=ABOUT)
        await client.get(Account.of_tenant("k" * 32, "globex"), "/x", about=ABOUT)
    assert [request.headers["X-MLFLOW-WORKSPACE"] for request in seen] == ["acme", "globex"]
    assert len({request.headers["Authorization"] for request in seen}) == 2
    assert not any("Cookie" in request.headers for request in seen)


async def test_a_file_that_is_larger_than_expected_is_not_read_to_its_end() -> None:
    async with rest(lambda _: httpx.Response(200, content=b"x" * 1000)) as client:
        assert await client.download(ACME, "a", max_bytes=1000, about=ABOUT) == b"x" * 1000
        with pytest.raises(FailedPrecondition):
            await client.download(ACME, "a", max_bytes=999, about=ABOUT)
