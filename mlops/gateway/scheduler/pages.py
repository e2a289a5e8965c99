"""One page of a tenant's jobs, newest first, out of Temporal's visibility store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from temporalio.client import Client

from mlops.gateway.scheduler.jobs import job_of
from mlops.gateway.scheduler.translate import translated
from mlops.gateway.scheduler.visibility import STATE_QUERIES, newest_first, query_of
from mlops.jobs.job import Job, JobFilter, JobPage, JobState
from mlops.jobs.pages import Listing


async def page_of(
    client: Client, tenant: str, filter: JobFilter, *, page_size: int, page_token: str, longest: timedelta
) -> JobPage:
    """The page behind the token, with counts by state. `client` is of the tenant's namespace.

    longest: how long the server keeps a job. Raises InvalidRequest for a token that this list did not give.
    """
    listing = Listing.of("jobs", tenant=tenant, filter=filter.model_dump(mode="json"))
    place = listing.place_at(page_token)
    query = query_of(filter)
    now = datetime.now(UTC) + timedelta(minutes=1)
    # A window's end is exclusive, and times are read in microseconds.
    before = place[0] + timedelta(microseconds=1) if place else filter.created_before or now
    oldest = filter.created_after or now - longest

    async def count(start: datetime, end: datetime) -> int:
        return (await client.count_workflows(_between(query, start, end))).count

    async def fetch(start: datetime, end: datetime) -> list[Job]:
        found = [job_of(row.raw_info) async for row in client.list_workflows(_between(query, start, end))]
        found.sort(key=lambda job: (job.created_at, job.id), reverse=True)
        return [job for job in found if place is None or (job.created_at, job.id) < place]

    with translated():
        rows, counts = await asyncio.gather(
            newest_first(count=count, fetch=fetch, oldest=oldest, before=before, wanted=page_size + 1),
            _counts(client, query_of(filter, with_states=False)),
        )
    page, more = rows[:page_size], len(rows) > page_size
    token = listing.token_at(page[-1].created_at, page[-1].id) if more else ""
    return JobPage(jobs=tuple(page), next_page_token=token, counts=counts)


async def _counts(client: Client, query: str) -> dict[JobState, int]:
    states = list(STATE_QUERIES)
    counts = await asyncio.gather(
        *(client.count_workflows(f"({query}) AND {STATE_QUERIES[state]}") for state in states)
    )
    return {state: found.count for state, found in zip(states, counts, strict=True)}


def _between(query: str, start: datetime, end: datetime) -> str:
    return f"({query}) AND StartTime >= '{start.isoformat()}' AND StartTime < '{end.isoformat()}'"
