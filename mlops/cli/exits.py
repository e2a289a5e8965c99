"""Exit codes, in one table: scripts depend on them."""

from __future__ import annotations

from mlops import errors
from mlops.errors import Code, MlopsError

OK = 0
FAILED = 1
INVALID = 2
NOT_FOUND = 3
DENIED = 4
AWAY = 5
CONFLICT = 6
QUOTA = 7
INTERRUPTED = 130

# What `mlops --help` and docs/how-to/cli.md say of them.
MEANINGS: dict[int, str] = {
    OK: "it worked",
    FAILED: "the job failed or was cancelled, or an error that no other code names",
    INVALID: "the command or the request breaks a rule",
    NOT_FOUND: "there is no such thing",
    DENIED: "no valid API key, or its role does not allow it",
    AWAY: "a service is away, or the deadline passed: try again",
    CONFLICT: "it exists already, or is in the wrong state for this",
    QUOTA: "a limit of the tenant is reached",
    INTERRUPTED: "interrupted with Ctrl-C",
}

_BY_CODE: dict[Code, int] = {
    Code.CANCELLED: FAILED,
    Code.INVALID_ARGUMENT: INVALID,
    Code.DEADLINE_EXCEEDED: AWAY,
    Code.NOT_FOUND: NOT_FOUND,
    Code.ALREADY_EXISTS: CONFLICT,
    Code.PERMISSION_DENIED: DENIED,
    Code.RESOURCE_EXHAUSTED: QUOTA,
    Code.FAILED_PRECONDITION: CONFLICT,
    Code.INTERNAL: FAILED,
    Code.UNAVAILABLE: AWAY,
    Code.DATA_LOSS: FAILED,
    Code.UNAUTHENTICATED: DENIED,
}


def exit_code(error: MlopsError) -> int:
    """The exit code of an error. What ended a job is a failed job, whatever the status of the call."""
    return FAILED if isinstance(error, errors.JobError) else _BY_CODE[error.code]
