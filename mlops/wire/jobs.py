"""What of the Jobs service the generic walk cannot do: pages with counts, and events."""

from __future__ import annotations

from typing import Any

from mlops.errors import InvalidRequest
from mlops.jobs.job import JobEvent, JobPage
from mlops.v1 import jobs_pb2
from mlops.wire.convert import build, parse


def build_page(page: JobPage) -> jobs_pb2.ListJobsResponse:
    """A page of jobs; states that no job stands in are left out of the counts."""
    return jobs_pb2.ListJobsResponse(
        jobs=[build(jobs_pb2.Job, job) for job in page.jobs],
        next_page_token=page.next_page_token,
        counts=[
            jobs_pb2.JobStateCount(state=jobs_pb2.JobState.Value(f"JOB_STATE_{state.name}"), count=count)
            for state, count in page.counts.items()
        ],
    )


def parse_page(message: jobs_pb2.ListJobsResponse) -> JobPage:
    """The inverse of `build_page`."""
    return parse(message, JobPage, reshape=_counts)


def _counts(plain: dict[str, Any]) -> dict[str, Any]:
    return {**plain, "counts": {entry.get("state", "unspecified"): entry["count"] for entry in plain["counts"]}}


def build_event(event: JobEvent) -> jobs_pb2.WatchJobResponse:
    """One event of a watch."""
    message = build(jobs_pb2.WatchJobResponse, event.model_copy(update={"metrics": None}))
    if event.metrics is not None:
        message.metrics.CopyFrom(jobs_pb2.StepMetrics(step=event.metrics_step, values=event.metrics))
    return message


def parse_event(message: jobs_pb2.WatchJobResponse) -> JobEvent:
    """The inverse of `build_event`. Raises InvalidRequest for an event that this version does not know."""
    if message.WhichOneof("event") is None:
        raise InvalidRequest.of("event", "is missing, or is of a kind that this version does not know")
    return parse(message, JobEvent, reshape=_metrics)


def _metrics(plain: dict[str, Any]) -> dict[str, Any]:
    scores = plain.get("metrics")
    return plain if scores is None else {**plain, "metrics": scores["values"], "metrics_step": scores["step"]}
