"""Sizes and durations as people write them: 2GiB, 30m."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from mlops import errors

_UNITS_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    # As Kubernetes writes them.
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
}
_UNITS_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)")


def parse_bytes(value: int | str, *, field: str) -> int:
    """Bytes of 2147483648, "2GiB" or "500 MB". Raises InvalidRequest, naming `field`, for anything else."""
    if isinstance(value, int):
        return value
    match = _SIZE.match(value)
    factor = _UNITS_BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise errors.InvalidRequest.of(field, f"{value!r} is no size; write 2GiB, 500MB or a number of bytes")
    return math.floor(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def parse_duration(value: timedelta | float | str, *, field: str) -> timedelta:
    """The duration of 90 (seconds), "30m" or "1h30m". Raises InvalidRequest, naming `field`, for anything else."""
    problem = f"{value!r} is no duration; write 90s, 30m, 1h30m or a number of seconds"
    try:
        if isinstance(value, timedelta):
            return value
        if isinstance(value, int | float):
            return timedelta(seconds=value)
        text = value.strip().lower()
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            return timedelta(seconds=float(text))
        parts = _DURATION.findall(text)
        if not parts or _DURATION.sub("", text).strip():
            raise errors.InvalidRequest.of(field, problem)
        return timedelta(seconds=sum(float(number) * _UNITS_SECONDS[unit] for number, unit in parts))
    except (OverflowError, ValueError) as exc:
        raise errors.InvalidRequest.of(field, problem) from exc
