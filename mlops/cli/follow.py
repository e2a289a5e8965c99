"""A job that was just accepted, or is looked at: followed to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops import errors
from mlops.cli.session import Session, plain

if TYPE_CHECKING:
    from mlops.client import BatchHandle, JobHandle


def accepted(session: Session, handle: JobHandle | BatchHandle, *, watch: bool, again: bool = False) -> None:
    """Says that the job will run, and follows it where that is wanted."""
    what = "runs again" if again else "is accepted"
    if watch:
        if session.for_people:
            session.note(f"Job {handle.id} {what}.")
        follow_to_end(session, handle)
    elif session.for_people:
        session.done(f"Job {handle.id} {what}. Follow it: mlops job watch {handle.id}")
    else:
        session.emit(plain(handle.job))


def follow_to_end(session: Session, handle: JobHandle | BatchHandle, *, cursor: str = "") -> None:
    """Shows a job to its end, and its results. Raises JobFailed or JobCancelled for one that did not succeed."""
    from mlops.cli.jobview import outcome_facts
    from mlops.cli.progress import JobView, follow
    from mlops.client.handle import outcome

    view = JobView(handle.id, name=handle.job.name, started=handle.job.created_at)
    try:
        job = follow(session, view, handle.watch(cursor))
    except KeyboardInterrupt:
        session.note(
            f"\nThe job goes on. Look again: mlops job watch {handle.id}   Stop it: mlops job cancel {handle.id}"
        )
        raise
    if job is None:
        raise errors.Unavailable(f"the watch of job {handle.id!r} ended before the job did; run it again")
    outcome(job)
    if session.for_people:
        session.console.print(outcome_facts(job))
        if job.batch_result is not None:
            session.note(f"Fetch the files: mlops job download {job.id}")
