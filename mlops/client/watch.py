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
_RESUMABLE = (errors.Unavailable, errors.Cancelled, errors.DeadlineExceeded)


async def watch_job(connection: Connection, job_id: str, *, cursor: str = "") -> AsyncIterator[JobEvent]:
    """The job's events behind `cursor`; the last one holds the whole job.

    A stream that breaks is opened again at the last cursor. Numbers inside a step carry the cursor of the
    event before them, so that the server may send them again: what was seen already is left out.
    Raises NotFound for an unknown job, and Unavailable when the gateway stays away longer than the policy's patience.
    """
    seen: dict[str, StepProgress] = {}
    attempt = 0
    give_up_at = time.monotonic() + connection.retry.patience.total_seconds()
    while True:
        hint: float | None = None
        stream = connection.jobs.WatchJob(
            jobs_pb2.WatchJobRequest(job_id=job_id, cursor=cursor), metadata=connection.metadata
        )
        cause: grpc.RpcError | None = None
        error: errors.MlopsError = errors.Unavailable(f"the gateway ended the stream before job {job_id!r} had ended")
        try:
            async for message in stream:
                if message.WhichOneof("event") is None:
                    continue  # an event of a kind that only a newer client knows
                event = parse_event(message)
                attempt, give_up_at = 0, time.monotonic() + connection.retry.patience.total_seconds()
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
        attempt += 1
        delay = connection.retry.delay_seconds(attempt, hint=hint)
        if not isinstance(error, _RESUMABLE) or time.monotonic() + delay > give_up_at:
            raise connection.explain(error) from cause
        await asyncio.sleep(delay)
