"""Errors to google.rpc.Status and back: the one table, used by the gateway and by the SDK.

    InvalidRequest.violations     BadRequest.field_violations
    NotFound                      ResourceInfo
    retryable errors              RetryInfo
    reason, all other details     ErrorInfo (domain "mlops"); texts as they are, other values as JSON

An error that crosses the wire comes back as the same class with the same details. What is too long for a
response's trailers is cut, since a peer refuses a response whose trailers are over 8 KiB, and its error with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import Code as RpcCode
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

from mlops import errors
from mlops.errors import InvalidRequest, MlopsError, NotFound, QuotaExceeded

DOMAIN = "mlops"
# The trailer that carries a google.rpc.Status.
DETAILS_TRAILER = "grpc-status-details-bin"
# Where a retryable error names no time of its own.
RETRY_SECONDS = 1.0

# The trailers hold the message twice, once percent-encoded (three bytes a byte), and the details in base64.
MAX_MESSAGE_BYTES = 1000
MAX_VIOLATIONS_BYTES = 1800
MAX_METADATA_BYTES = 800
MAX_NAME_BYTES = 200

# What a status without our details is to the caller: from a proxy, from gRPC itself, from another server.
FOREIGN: dict[grpc.StatusCode, type[MlopsError]] = {
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.UNKNOWN: errors.Internal,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.QuotaExceeded,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.ABORTED: errors.Unavailable,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.UNIMPLEMENTED: errors.FailedPrecondition,
    grpc.StatusCode.INTERNAL: errors.Internal,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DATA_LOSS: errors.ChecksumMismatch,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
}
_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
# These travel in a detail of their own.
_ELSEWHERE = frozenset({"violations", "resource_type", "resource_name"})


def grpc_code(error: MlopsError) -> grpc.StatusCode:
    """The gRPC status code of an error."""
    return grpc.StatusCode[error.code]


# --- error to status ---------------------------------------------------------------------------


def to_status(error: MlopsError) -> Status:
    """The status that stands for an error."""
    status = Status(code=RpcCode.Value(error.code), message=_cut(error.message, MAX_MESSAGE_BYTES))
    for detail in _details(error):
        status.details.add().Pack(detail)
    return status


def _details(error: MlopsError) -> Iterable[ErrorInfo | BadRequest | ResourceInfo | RetryInfo]:
    yield ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_metadata(error))
    if isinstance(error, InvalidRequest) and error.violations:
        yield BadRequest(field_violations=_violations(error.violations))
    if isinstance(error, NotFound):
        yield ResourceInfo(
            resource_type=_cut(error.resource_type, MAX_NAME_BYTES),
            resource_name=_cut(error.resource_name, MAX_NAME_BYTES),
        )
    if (seconds := _retry_seconds(error)) is not None:
        yield RetryInfo(retry_delay=Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9)))


def _metadata(error: MlopsError) -> dict[str, str]:
    metadata: dict[str, str] = {}
    room = MAX_METADATA_BYTES
    for key, value in error.details.items():
        if key in _ELSEWHERE:
            continue
        text = _encode(value)
        room -= len(key.encode()) + len(text.encode())
        if room >= 0:
            metadata[key] = text
    return metadata


def _violations(violations: dict[str, str]) -> list[BadRequest.FieldViolation]:
    listed: list[BadRequest.FieldViolation] = []
    room = MAX_VIOLATIONS_BYTES
    for path, problem in violations.items():
        violation = BadRequest.FieldViolation(
            field=_cut(path, MAX_NAME_BYTES), description=_cut(problem, 2 * MAX_NAME_BYTES)
        )
        room -= violation.ByteSize()
        if room < 0:
            break
        listed.append(violation)
    return listed


def _retry_seconds(error: MlopsError) -> float | None:
    """A quota says itself whether waiting helps: a dataset that is too large stays too large."""
    seconds = error.retry_after_seconds if isinstance(error, QuotaExceeded) else RETRY_SECONDS
    if not error.retryable or seconds is None or not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), 86_400.0)


def _cut(text: str, most: int) -> str:
    """At most that many bytes of UTF-8. Lone surrogates, which no wire carries, are replaced."""
    encoded = text.encode("utf-8", "replace")
    return encoded.decode() if len(encoded) <= most else encoded[: most - 3].decode("utf-8", "ignore") + "…"


def _encode(value: Any) -> str:
    """Texts as they are, unless they read as JSON; anything else as JSON."""
    if not isinstance(value, str):
        return json.dumps(value, default=str)
    return value.encode("utf-8", "replace").decode() if _decode(value) is value else json.dumps(value)


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


# --- status to error ---------------------------------------------------------------------------


def from_status(status: Status) -> MlopsError:
    """The error that a status stands for: the very class where it carries our details, else the nearest."""
    code = _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    kind = FOREIGN.get(code, errors.Internal)
    details: dict[str, Any] = {}
    for packed in status.details:
        found, more = _unpack(packed)
        kind = found or kind
        # What ErrorInfo says comes first, and exactly; RetryInfo is rounded.
        details = {**more, **details}
    return kind(status.message or f"the server answered {code.name}", **_fitting(kind, details))


def _unpack(packed: AnyMessage) -> tuple[type[MlopsError] | None, dict[str, Any]]:
    """The class that a detail names, if it does, and the error's details that it holds."""
    info, bad, resource, retry = ErrorInfo(), BadRequest(), ResourceInfo(), RetryInfo()
    try:
        if packed.Unpack(info):
            if info.domain != DOMAIN:
                return None, {}
            return errors.error_classes().get(info.reason), {k: _decode(v) for k, v in info.metadata.items()}
        if packed.Unpack(bad):
            return None, {"violations": {v.field: v.description for v in bad.field_violations}}
        if packed.Unpack(resource):
            return None, {"resource_type": resource.resource_type, "resource_name": resource.resource_name}
        if packed.Unpack(retry):
            delay = retry.retry_delay
            return None, {"retry_after_seconds": delay.seconds + delay.nanos / 1e9}
    except DecodeError:
        # A detail that we cannot read takes nothing from the status that carries it.
        return None, {}
    return None, {}


def _fitting(kind: type[MlopsError], details: dict[str, Any]) -> dict[str, Any]:
    """The details without those that the class keeps elsewhere or does not have."""
    belongs: dict[str, type[MlopsError]] = {
        "violations": InvalidRequest,
        "resource_type": NotFound,
        "resource_name": NotFound,
        "retry_after_seconds": QuotaExceeded,
    }
    return {key: value for key, value in details.items() if issubclass(kind, belongs.get(key, MlopsError))}


def from_rpc_error(error: grpc.RpcError) -> MlopsError:
    """The error that a failed call stands for: the same class that the server raised."""
    code = error.code() if callable(getattr(error, "code", None)) else grpc.StatusCode.UNKNOWN
    text = error.details() if callable(getattr(error, "details", None)) else str(error)
    trailers = error.trailing_metadata() if callable(getattr(error, "trailing_metadata", None)) else None
    status = _status_in(trailers or ())
    if status is None or status.code != code.value[0]:
        status = Status(code=code.value[0], message=text or "")
    return from_status(status)


def _status_in(trailers: Iterable[Any]) -> Status | None:
    for key, value in trailers:
        if key == DETAILS_TRAILER and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                return None
    return None


def retry_after_seconds(error: grpc.RpcError) -> float | None:
    """How long the server asks to wait before the call is made again; None where it does not say that it helps."""
    trailers = error.trailing_metadata() if callable(getattr(error, "trailing_metadata", None)) else None
    status = _status_in(trailers or ())
    for packed in status.details if status is not None else ():
        if packed.TypeName() == RetryInfo.DESCRIPTOR.full_name:
            return _unpack(packed)[1].get("retry_after_seconds")
    return None
