"""Which request took a job id: noted in storage, so that an id means one request when its job is long forgotten."""

from __future__ import annotations

import asyncio

import structlog

from mlops import errors, names
from mlops.storage.objects import ObjectStore

# Stands in for the fingerprint of the request of a deleted job.
DELETED = b"deleted"

log = structlog.get_logger(__name__)


class Requests:
    """The fingerprints of the requests that took job ids. A job's run and its version go by that id."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._writing: set[asyncio.Task[None]] = set()

    async def check(self, tenant: str, job_id: str, fingerprint: str) -> bool:
        """Whether this very request took the id before.

        Raises RequestIdReused where another request took it, or where its job was deleted.
        """
        try:
            known = await self._store.read_bytes(names.request_key(tenant, job_id))
        except errors.NotFound:
            return False
        if known != fingerprint.encode():
            raise reused(job_id)
        return True

    def note(self, tenant: str, job_id: str, fingerprint: str) -> None:
        """Notes who took the id, in the background: while Temporal knows the job, it says so itself."""
        task = asyncio.create_task(self._note(tenant, job_id, fingerprint))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def retire(self, tenant: str, job_id: str) -> None:
        """Nobody may have the id of a deleted job."""
        await self._store.write_bytes(names.request_key(tenant, job_id), DELETED)

    async def _note(self, tenant: str, job_id: str, fingerprint: str) -> None:
        try:
            await self._store.write_bytes(names.request_key(tenant, job_id), fingerprint.encode())
        except errors.Unavailable as error:
            log.warning("a request was not noted", tenant=tenant, job_id=job_id, error=error.message)


def reused(job_id: str) -> errors.RequestIdReused:
    """What is said where an id was taken by another request."""
    return errors.RequestIdReused(
        f"Request id {job_id!r} was used for a different request; take a new one", request_id=job_id
    )


def forgotten(job_id: str) -> errors.RequestIdReused:
    """What is said where the id's job ended so long ago that only its files are left: they are no new job's."""
    return errors.RequestIdReused(
        f"The job of request id {job_id!r} ended so long ago that it is forgotten; take a new one", request_id=job_id
    )
