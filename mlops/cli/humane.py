"""Sizes, times and numbers as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta


def size(size_bytes: int) -> str:
    """1.5 GiB for 1610612736."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes everything")


def duration(length: timedelta | float) -> str:
    """1h 5m for 3900 seconds, 3.2s for 3.2."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    first = next(index for index, (value, _) in enumerate(parts) if value)
    return " ".join(f"{value}{unit}" for value, unit in parts[first : first + 2] if value)


def ago(time: datetime | None, *, now: datetime | None = None) -> str:
    """3m ago; in 2d for the future; empty for None."""
    if time is None:
        return ""
    passed = ((now or datetime.now(UTC)) - time).total_seconds()
    if abs(passed) < 1:
        return "now"
    largest = duration(abs(passed)).split(" ")[0]
    return f"{largest} ago" if passed > 0 else f"in {largest}"


def number(value: float | None) -> str:
    """Four significant digits; counts as they are; empty for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 10**15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def numbers(values: dict[str, float]) -> str:
    """loss=0.25 trees=30"""
    return " ".join(f"{name}={number(value)}" for name, value in values.items())


def progress(message: str, values: dict[str, float]) -> str:
    """What a step says, with its numbers. A batch's message says them already; without one they are put in words."""
    rate, left = values.get("rows_per_second"), values.get("seconds_left")
    if rate is None:
        return "  ".join(text for text in (message, numbers(values)) if text)
    words = [f"{values.get('rows', 0.0):,.0f} rows", f"{rate:,.0f} rows/s"]
    return message or ", ".join([*words, *([f"{duration(left)} left"] if left is not None else [])])


def value(cell: object) -> str:
    """One cell of a table; empty for None."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    return number(cell) if isinstance(cell, float) else str(cell)


def pairs(mapping: dict[str, str]) -> str:
    """team=a, stage=test"""
    return ", ".join(f"{key}={value}" for key, value in sorted(mapping.items()))
