"""Temporal's visibility store as a list of jobs: queries, and exact newest-first order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

from mlops import names
from mlops.jobs.job import JobFilter, JobKind, JobState

Row = TypeVar("Row")

# The most rows that one window may hold: what the store lists in about 0.3 s.
WINDOW_ROWS = 500
SHORTEST_WINDOW = timedelta(milliseconds=1)

STATE_QUERIES = {
    JobState.QUEUED: f"(ExecutionStatus = 'Running' AND {names.ATTRIBUTE_STATE} = 'queued')",
    JobState.RUNNING: f"(ExecutionStatus = 'Running' AND {names.ATTRIBUTE_STATE} = 'running')",
    JobState.CANCELLING: f"(ExecutionStatus = 'Running' AND {names.ATTRIBUTE_STATE} = 'cancelling')",
    JobState.SUCCEEDED: "ExecutionStatus = 'Completed'",
    JobState.FAILED: "ExecutionStatus IN ('Failed', 'TimedOut', 'Terminated')",
    JobState.CANCELLED: "ExecutionStatus = 'Canceled'",
}


def query_of(selected: JobFilter, *, with_states: bool = True) -> str:
    """The visibility query of a filter."""
    kinds = selected.kinds or tuple(JobKind)
    parts = [f"{names.ATTRIBUTE_KIND} IN ({', '.join(quoted(kind.value) for kind in kinds)})"]
    if with_states and selected.states:
        parts.append("(" + " OR ".join(STATE_QUERIES[state] for state in dict.fromkeys(selected.states)) + ")")
    if selected.name.endswith("*"):
        parts.append(f"{names.ATTRIBUTE_NAME} STARTS_WITH {quoted(selected.name[:-1])}")
    elif selected.name:
        parts.append(f"{names.ATTRIBUTE_NAME} = {quoted(selected.name)}")
    if selected.owner:
        parts.append(f"{names.ATTRIBUTE_OWNER} = {quoted(selected.owner)}")
    parts += [f"{names.ATTRIBUTE_LABELS} = {quoted(names.label(key, value))}" for key, value in selected.labels.items()]
    if selected.created_after:
        parts.append(f"StartTime >= {stamp(selected.created_after)}")
    if selected.created_before:
        parts.append(f"StartTime < {stamp(selected.created_before)}")
    return " AND ".join(parts)


def quoted(text: str) -> str:
    """A text as a literal of the query language."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def stamp(time: datetime) -> str:
    """A time as a literal of the query language."""
    return f"'{time.isoformat()}'"


async def newest_first(
    *,
    count: Callable[[datetime, datetime], Awaitable[int]],
    fetch: Callable[[datetime, datetime], Awaitable[list[Row]]],
    oldest: datetime,
    before: datetime,
    wanted: int,
) -> list[Row]:
    """Rows by descending start time, at least `wanted` of them where there are as many.

    The store orders by the time of closing and knows no ORDER BY, so this walks back in windows of time
    that are small enough to be fetched whole. `fetch` returns a window [start, end) newest first.
    """
    rows: list[Row] = []
    end, width = before, before - oldest
    while len(rows) < wanted and end > oldest:
        start = max(end - width, oldest)
        held = await count(start, end)
        if held > WINDOW_ROWS and width > SHORTEST_WINDOW:
            width = max(width / 4, SHORTEST_WINDOW)
            continue
        if held:
            rows += await fetch(start, end)
        end, width = start, width * 2
    return rows
