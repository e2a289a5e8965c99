"""Errors to statuses and back."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops import errors
from mlops.wire.status import (
    DETAILS_TRAILER,
    FOREIGN,
    from_rpc_error,
    from_status,
    grpc_code,
    retry_after_seconds,
    to_status,
)

CLASSES = sorted(errors.error_classes().values(), key=lambda kind: kind.__name__)


class FailedCall(grpc.RpcError):
    """What a stub raises, as far as it matters here."""

    def __init__(self, code: grpc.StatusCode, text: str, trailers: tuple[tuple[str, bytes | str], ...] = ()) -> None:
        super().__init__(text)
        self._code, self._text, self._trailers = code, text, trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text

    def trailing_metadata(self) -> Any:
        return self._trailers


def failed(error: errors.MlopsError) -> FailedCall:
    return FailedCall(grpc_code(error), error.message, ((DETAILS_TRAILER, to_status(error).SerializeToString()),))


def detail(status: Status, kind: type[Any]) -> Any:
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_arrives_as_itself(kind: type[errors.MlopsError]) -> None:
    error = kind("what, which, what to do")
    back = from_rpc_error(failed(error))
    assert type(back) is kind
    assert back.message == error.message
    assert back.details == error.details


DETAILED = [
    errors.InvalidRequest("no", violations={"spec.target": "is no column", "spec.seed": "is negative"}),
    errors.NotFound.of("job", "train-1"),
    errors.QuotaExceeded("full", limit="max_active_jobs", retry_after_seconds=2.5),
    errors.FitFailed("bad", error_class="ValueError", step="fold-1", hint="scale the features"),
    errors.JobFailed("failed", job_id="train-1", step="fit"),
    errors.RequestIdReused("taken", request_id="5"),
    errors.Internal("a defect", incident="null"),
    errors.AlreadyExists("odd", number=5, share=0.1, flag=True, nothing=None, text="true", many=[1, "a"]),
]


@pytest.mark.parametrize("error", DETAILED, ids=lambda error: type(error).__name__)
def test_details_arrive_with_their_types(error: errors.MlopsError) -> None:
    back = from_status(to_status(error))
    assert type(back) is type(error)
    assert back.details == error.details


@settings(deadline=None)
@given(
    st.text(max_size=50),
    st.dictionaries(
        st.text("abcdef", min_size=1),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
        max_size=3,
    ),
)
def test_any_details_arrive_as_they_were(message: str, details: dict[str, Any]) -> None:
    error = errors.FailedPrecondition(message or "empty", **details)
    assert from_status(to_status(error)).details == details


def test_standard_details_tell_other_clients_the_same() -> None:
    bad = to_status(DETAILED[0])
    assert [(v.field, v.description) for v in detail(bad, BadRequest).field_violations] == [
        ("spec.target", "is no column"),
        ("spec.seed", "is negative"),
    ]
    assert detail(bad, ErrorInfo).reason == "INVALID_REQUEST"
    assert detail(bad, ErrorInfo).domain == "mlops"
    missing = detail(to_status(DETAILED[1]), ResourceInfo)
    assert (missing.resource_type, missing.resource_name) == ("job", "train-1")
    full = to_status(DETAILED[2])
    assert detail(full, ErrorInfo).metadata["limit"] == "max_active_jobs"
    assert detail(full, RetryInfo).retry_delay.ToTimedelta().total_seconds() == 2.5


def test_a_retry_is_only_suggested_where_it_helps() -> None:
    assert retry_after_seconds(failed(errors.TrackingUnavailable("away"))) == 1.0
    assert retry_after_seconds(failed(errors.QuotaExceeded("too large", limit="max_dataset_bytes"))) is None
    assert retry_after_seconds(failed(errors.QuotaExceeded("full", retry_after_seconds=math.inf))) is None
    assert retry_after_seconds(failed(errors.NotFound.of("job", "a"))) is None
    assert retry_after_seconds(FailedCall(grpc.StatusCode.UNAVAILABLE, "connection refused")) is None


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_a_code_without_details_maps_to_the_nearest_class(code: grpc.StatusCode) -> None:
    if code is grpc.StatusCode.OK:
        return
    back = from_rpc_error(FailedCall(code, "from a proxy"))
    assert type(back) is FOREIGN[code]
    assert back.message == "from a proxy"


def test_details_that_contradict_the_code_are_not_believed() -> None:
    trailers = ((DETAILS_TRAILER, to_status(errors.NotFound.of("job", "a")).SerializeToString()),)
    assert type(from_rpc_error(FailedCall(grpc.StatusCode.UNAVAILABLE, "away", trailers))) is errors.Unavailable


def test_details_of_another_domain_or_reason_give_the_nearest_class() -> None:
    status = Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="gone")
    status.details.add().Pack(ErrorInfo(reason="NOT_OURS", domain="example.org", metadata={"a": "b"}))
    assert from_status(status).details == {"resource_type": "", "resource_name": ""}
    newer = Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="gone")
    newer.details.add().Pack(ErrorInfo(reason="OF_A_LATER_VERSION", domain="mlops", metadata={"a": "b"}))
    assert type(from_status(newer)) is errors.NotFound
    assert from_status(newer).details["a"] == "b"


@settings(deadline=None)
@given(st.integers(-1, 40), st.binary(max_size=40), st.sampled_from([ErrorInfo, BadRequest, RetryInfo]))
def test_a_malformed_status_still_gives_an_error(code: int, raw: bytes, kind: type[Any]) -> None:
    packed = AnyMessage(type_url=f"type.googleapis.com/{kind.DESCRIPTOR.full_name}", value=raw)
    assert isinstance(from_status(Status(code=code, details=[packed])), errors.MlopsError)
    trailers = ((DETAILS_TRAILER, raw),)
    assert isinstance(from_rpc_error(FailedCall(grpc.StatusCode.NOT_FOUND, "", trailers)), errors.MlopsError)


def test_whatever_an_error_says_its_trailers_stay_small() -> None:
    long = "ü" * 100_000 + "\ud800"
    worst = errors.InvalidRequest(
        long, violations={f"{long}[{i}]": long for i in range(1000)}, **{f"k{i}": long for i in range(50)}
    )
    for error in (worst, errors.NotFound.of(long, long), errors.FitFailed(long, step=long, hint=long)):
        status = to_status(error)
        # base64 of the details, and the message percent-encoded: below the 8 KiB that a peer accepts.
        assert status.ByteSize() * 4 / 3 + len(status.message.encode()) * 3 < 8000
        assert type(from_status(status)) is type(error)
