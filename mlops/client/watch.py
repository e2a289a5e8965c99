"""Watching a job: one stream of events, however often the connection under it breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc

from mlops import errors
from mlops.client.connection import Connection
from mlops.jobs.job import JobEvent, StepProgress
from mlops.v1 import jobs_pb2
from mlops.wire import status
from mlops.wire.jobs import parse_event

# CANCELLED: a gateway that is being stopped ends its streams so.
# gRPC gives up a connection that does not come about after 20 s.
LONGEST_CONNECT_SECONDS = 30.0
_RESUMABLE = (errors.Unavailable, errors.Cancelled, errors.DeadlineExceeded)


async def watch_job(
    connection: Connection, job_id: str, *, cursor: str = "", end_only: bool = False
) -> AsyncIterator[JobEvent]:
    """The job's events behind `cursor`, or only the last one: it holds the whole job.

    A stream that breaks is opened again at the last cursor. Numbers inside a step carry the cursor of the
    event before them, so that the server may send them again: what was seen already is left out.
    Raises NotFound for an unknown job, and Unavailable when the gateway stays away longer than the policy's patience.
    """
    seen: dict[str, StepProgress] = {}
    patience = connection.retry.patience.total_seconds()
    attempt, give_up_at = 0, time.monotonic() + patience
    while True:
        hint: float | None = None
        opened_at = time.monotonic()
        request = jobs_pb2.WatchJobRequest(job_id=job_id, cursor=cursor, end_only=end_only)
        stream = connection.jobs.WatchJob(request, metadata=connection.metadata)
        cause: grpc.RpcError | None = None
        error: errors.MlopsError = errors.Unavailable(f"the gateway ended the stream before job {job_id!r} had ended")
        try:
            async for message in stream:
                if message.WhichOneof("event") is None:
                    continue  # an event of a kind that only a newer client knows
                event = parse_event(message)
                attempt, give_up_at = 0, time.monotonic() + patience
                cursor = event.cursor or cursor
                if event.step is not None:
                    if seen.get(event.step.step) == event.step:
                        continue
                    seen[event.step.step] = event.step
                yield event
                if event.job is not None:
                    return
        except grpc.RpcError as exc:
            cause, error, hint = exc, status.from_rpc_error(exc), status.retry_after_seconds(exc)
        finally:
            stream.cancel()
        if time.monotonic() - opened_at > LONGEST_CONNECT_SECONDS:
            # It stood, and there was nothing to tell: what ended it is news.
            attempt, give_up_at = 0, time.monotonic() + patience
        attempt += 1
        delay = connection.retry.delay_seconds(attempt, hint=hint)
        if not isinstance(error, _RESUMABLE) or time.monotonic() + delay > give_up_at:
            raise connection.explain(error) from cause
        await asyncio.sleep(delay)
