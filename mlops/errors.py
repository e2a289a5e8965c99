"""The one error tree.

    MlopsError
    ├── InvalidRequest            the request breaks a rule; carries each field's path
    ├── Unauthenticated           no key, or one that is unknown, revoked or expired
    ├── PermissionDenied          the key's role does not allow the call
    ├── NotFound                  nothing of that id is visible to this tenant
    ├── AlreadyExists             that id is taken
    │   └── RequestIdReused       the request id was used for a different request
    ├── FailedPrecondition        the thing exists, but is in the wrong state for the call
    ├── QuotaExceeded             a limit of the tenant is reached; carries the limit's name
    ├── ChecksumMismatch          the bytes that arrived are not the bytes announced
    ├── Unavailable               a service we need is away; the same call may work later
    │   ├── SchedulerUnavailable
    │   ├── StorageUnavailable
    │   ├── TrackingUnavailable
    │   └── ServingUnavailable
    ├── DeadlineExceeded          the caller's own deadline passed
    ├── Cancelled                 the caller went away
    ├── Internal                  a defect of ours; carries an incident id
    └── JobError                  what ends a step of a job
        ├── DataInvalid           the data cannot be read, or cannot be used as asked
        ├── FitFailed             scikit-learn refused or failed
        ├── UnsafeModel           a stored model holds types that are not on the allow-list
        ├── MemoryLimitExceeded   the step needed more memory than the job asked for
        ├── TimeLimitExceeded     the job's time limit passed
        ├── ChildCrashed          the process that ran the step died; a retry may work
        ├── JobFailed             raised by the SDK for a job that ended in failure
        └── JobCancelled          raised by the SDK for a job that was cancelled

A class carries a `code` (the canonical status it maps to) and `retryable`, and no transport import.
Every error takes one positional message and keyword details, and survives pickle.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class Code(StrEnum):
    """Canonical status codes (google.rpc.Code), by name."""

    CANCELLED = "CANCELLED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class MlopsError(Exception):
    """Any error of this package. `message` is for people; `details` are for programs (JSON values only)."""

    code: ClassVar[Code] = Code.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def reason(self) -> str:
        """The stable, machine-readable name of the error: INVALID_REQUEST for InvalidRequest."""
        return reason_of(type(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.details)


def _rebuild(kind: type[MlopsError], message: str, details: dict[str, Any]) -> MlopsError:
    return kind(message, **details)


class InvalidRequest(MlopsError):
    """The request breaks a rule. `violations` maps a field's path (`spec.target`) to what is wrong with it."""

    code = Code.INVALID_ARGUMENT

    def __init__(self, message: str, /, *, violations: dict[str, str] | None = None, **details: Any) -> None:
        super().__init__(message, violations=violations or {}, **details)
        self.violations: dict[str, str] = violations or {}

    @classmethod
    def of(cls, field: str, problem: str) -> InvalidRequest:
        """One violation, its message naming the field."""
        return cls(f"{field}: {problem}", violations={field: problem})


class Unauthenticated(MlopsError):
    """No API key, or one that is unknown, revoked or expired."""

    code = Code.UNAUTHENTICATED


class PermissionDenied(MlopsError):
    """The key's role does not allow the call."""

    code = Code.PERMISSION_DENIED


class NotFound(MlopsError):
    """Nothing of that id is visible to this tenant."""

    code = Code.NOT_FOUND

    def __init__(self, message: str, /, *, resource_type: str = "", resource_name: str = "", **details: Any) -> None:
        super().__init__(message, resource_type=resource_type, resource_name=resource_name, **details)
        self.resource_type = resource_type
        self.resource_name = resource_name

    @classmethod
    def of(cls, resource_type: str, resource_name: str) -> NotFound:
        """The one wording for a missing thing, so that another tenant's and no one's look alike."""
        return cls(
            f"{resource_type} {resource_name!r} does not exist",
            resource_type=resource_type,
            resource_name=resource_name,
        )


class AlreadyExists(MlopsError):
    """That id is taken."""

    code = Code.ALREADY_EXISTS


class RequestIdReused(AlreadyExists):
    """The request id was used before, for a different request."""


class FailedPrecondition(MlopsError):
    """The thing exists, but is in the wrong state for the call."""

    code = Code.FAILED_PRECONDITION


class QuotaExceeded(MlopsError):
    """A limit of the tenant is reached. `limit` is its name, `retry_after_seconds` a hint or None."""

    code = Code.RESOURCE_EXHAUSTED
    retryable = True

    def __init__(
        self, message: str, /, *, limit: str = "", retry_after_seconds: float | None = None, **details: Any
    ) -> None:
        super().__init__(message, limit=limit, retry_after_seconds=retry_after_seconds, **details)
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds


class ChecksumMismatch(MlopsError):
    """The bytes that arrived are not the bytes announced; nothing was stored."""

    code = Code.DATA_LOSS


class Unavailable(MlopsError):
    """A service we need is away; the same call may work later."""

    code = Code.UNAVAILABLE
    retryable = True


class SchedulerUnavailable(Unavailable):
    """Temporal did not answer."""


class StorageUnavailable(Unavailable):
    """The object store did not answer."""


class TrackingUnavailable(Unavailable):
    """MLflow did not answer."""


class ServingUnavailable(Unavailable):
    """A serving host went away before it answered, or could not be asked: another may answer the same order."""


class DeadlineExceeded(MlopsError):
    """The caller's own deadline passed."""

    code = Code.DEADLINE_EXCEEDED


class Cancelled(MlopsError):
    """The caller cancelled the call."""

    code = Code.CANCELLED


class Internal(MlopsError):
    """A defect of ours. The message names an incident id that stands in the server's log."""


class JobError(MlopsError):
    """What ends a step of a job. `step` names it (fold-3, fit, evaluate), `hint` says what to try."""

    code = Code.FAILED_PRECONDITION

    def __init__(self, message: str, /, *, step: str = "", hint: str = "", **details: Any) -> None:
        super().__init__(message, step=step, hint=hint, **details)
        self.step = step
        self.hint = hint


class DataInvalid(JobError):
    """The data cannot be read, or cannot be used as asked."""


class FitFailed(JobError):
    """scikit-learn refused or failed. `error_class` is the class of its exception."""

    def __init__(self, message: str, /, *, error_class: str = "", **details: Any) -> None:
        super().__init__(message, error_class=error_class, **details)
        self.error_class = error_class


class UnsafeModel(JobError):
    """A stored model holds types that are not on the allow-list; it was not loaded."""


class MemoryLimitExceeded(JobError):
    """The step needed more memory than the job asked for; its process was killed."""


class TimeLimitExceeded(JobError):
    """The time limit passed; the process was killed."""


class ChildCrashed(JobError):
    """The process that ran the step died of something else than a limit; a retry may work."""

    code = Code.UNAVAILABLE
    retryable = True


class JobFailed(JobError):
    """A job ended in failure. Raised by the SDK; `job_id` names it."""


class JobCancelled(JobError):
    """A job was cancelled. Raised by the SDK; `job_id` names it."""

    code = Code.CANCELLED


def reason_of(kind: type[MlopsError]) -> str:
    """INVALID_REQUEST for InvalidRequest: the `reason` of google.rpc.ErrorInfo."""
    return "".join("_" + letter if letter.isupper() else letter for letter in kind.__name__).lstrip("_").upper()


def error_classes() -> dict[str, type[MlopsError]]:
    """Every class of the tree by its reason."""
    found: dict[str, type[MlopsError]] = {}
    waiting: list[type[MlopsError]] = [MlopsError]
    while waiting:
        kind = waiting.pop()
        found[reason_of(kind)] = kind
        waiting.extend(kind.__subclasses__())
    return found
