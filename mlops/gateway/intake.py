"""Taking in datasets, and giving them up again: bytes in storage, rows in the database, in an order that a crash
between two steps can only leave something over, and never something missing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from mlops import names
from mlops.errors import (
    ChecksumMismatch,
    DataInvalid,
    FailedPrecondition,
    InvalidRequest,
    MlopsError,
    NotFound,
    QuotaExceeded,
)
from mlops.gateway.headers import Registration, UploadHeader, dataset_name
from mlops.gateway.ports import SchedulerPort
from mlops.jobs.dataset import Dataset, Ingested, IngestJob, ReadOptions, Source
from mlops.storage.objects import ObjectStore
from mlops.storage.sources import SourceRoots
from mlops.tenants.datasets import DatasetStore
from mlops.tenants.store import TenantStore


class Intake:
    """Takes in and deletes datasets. What is done with the same bytes of a tenant is done one after the other."""

    def __init__(
        self,
        *,
        scheduler: SchedulerPort,
        tenants: TenantStore,
        datasets: DatasetStore,
        objects: ObjectStore,
        sources: SourceRoots,
    ) -> None:
        self._scheduler = scheduler
        self._tenants = tenants
        self._datasets = datasets
        self._objects = objects
        self._sources = sources
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def upload(self, tenant: str, owner: str, header: UploadHeader, chunks: AsyncIterator[bytes]) -> Dataset:
        """Stores the bytes, reads them on a worker, and returns the dataset that they are.

        Raises InvalidRequest for bytes that cannot be read, ChecksumMismatch, and QuotaExceeded.
        """
        name = header.name or _derived("header.name", header.file_name)
        max_bytes = await self._max_dataset_bytes(tenant)
        staging = names.staging_key(tenant, secrets.token_hex(16))
        source = await self._receive(staging, header, chunks, max_bytes=max_bytes)
        job = IngestJob(
            tenant=tenant,
            sha256=source.sha256,
            source_name=header.file_name or name,
            read_options=header.read_options,
            max_bytes=max_bytes,
        )
        try:
            async with self._lock(tenant, source.sha256):
                dataset = await self._known(tenant, source.sha256, header.read_options)
                if dataset is None:
                    await self._objects.move(staging, names.blob_key(tenant, source.sha256))
                    ingested = await self._ingest(tenant, job, field="chunk")
                    dataset = _dataset(ingested, header.read_options, owner=owner)
                return await self._put(tenant, dataset, name, header.labels)
        finally:
            await self._objects.delete(staging)

    async def register(self, tenant: str, owner: str, asked: Registration) -> Dataset:
        """Copies what is at a URI on a worker, and reads it there.

        Raises InvalidRequest for a URI outside the allowed roots, or bytes that cannot be read; NotFound, and
        QuotaExceeded.
        """
        await asyncio.to_thread(self._sources.check, tenant, asked.uri)
        name = asked.name or _derived("name", asked.uri)
        job = IngestJob(
            tenant=tenant,
            uri=asked.uri,
            source_name=asked.uri,
            read_options=asked.read_options,
            max_bytes=await self._max_dataset_bytes(tenant),
        )
        ingested = await self._ingest(tenant, job, field="uri")
        dataset = _dataset(ingested, asked.read_options, owner=owner, source_uri=asked.uri)
        return await self._put(tenant, dataset, name, asked.labels)

    async def delete(self, tenant: str, dataset_id: str) -> None:
        """Deletes a dataset, and its bytes where no other dataset was read from them.

        Raises NotFound, and FailedPrecondition while a job uses it.
        """
        if not names.DATASET_ID.fullmatch(dataset_id):
            raise NotFound.of("dataset", dataset_id)
        dataset = await self._datasets.get(tenant, dataset_id)
        async with self._lock(tenant, dataset.sha256):
            if await self._scheduler.dataset_in_use(tenant, dataset_id):
                raise FailedPrecondition(
                    f"dataset {dataset_id!r} is used by a job that has not ended; wait for it, or cancel it"
                )
            await self._datasets.delete(tenant, dataset_id)
            await self._objects.delete_prefix(names.dataset_prefix(tenant, dataset_id))
            await self._drop_unused(tenant, dataset.sha256)

    # --- steps ---------------------------------------------------------------------------------

    async def _receive(
        self, staging: str, header: UploadHeader, chunks: AsyncIterator[bytes], *, max_bytes: int
    ) -> Source:
        """Writes the bytes to a staging key; nothing is left there unless they are what was announced."""
        if header.size_bytes is not None and header.size_bytes > max_bytes:
            raise _too_large(header.size_bytes, max_bytes)
        async with self._objects.open_upload(staging) as upload:
            async for chunk in chunks:
                if upload.size_bytes + len(chunk) > max_bytes:
                    raise _too_large(upload.size_bytes + len(chunk), max_bytes)
                if header.size_bytes is not None and upload.size_bytes + len(chunk) > header.size_bytes:
                    raise ChecksumMismatch(f"more than the {header.size_bytes} bytes announced arrived")
                await upload.write(chunk)
            if header.size_bytes is not None and upload.size_bytes != header.size_bytes:
                raise ChecksumMismatch(f"{upload.size_bytes} bytes arrived, {header.size_bytes} were announced")
            if header.sha256 and upload.sha256 != header.sha256:
                raise ChecksumMismatch(f"SHA-256 of what arrived is {upload.sha256}, announced was {header.sha256}")
            return await upload.commit()

    async def _known(self, tenant: str, sha256: str, options: ReadOptions) -> Dataset | None:
        try:
            return await self._datasets.get(tenant, names.dataset_id(sha256, options.canonical()))
        except NotFound:
            return None

    async def _ingest(self, tenant: str, job: IngestJob, *, field: str) -> Ingested:
        try:
            return await self._scheduler.ingest(tenant, job)
        except DataInvalid as error:
            await self._forget(tenant, job)
            raise InvalidRequest.of(field, f"{error.message.rstrip('.')}. {error.hint}".strip()) from error
        except MlopsError as error:
            # What may still be read by a worker that we have only lost sight of stays for the next try.
            if not error.retryable:
                await self._forget(tenant, job)
            raise

    async def _forget(self, tenant: str, job: IngestJob) -> None:
        """Removes the bytes of a source that could not be read. A URI's are found again by their hash: they stay."""
        if job.sha256 is not None:
            await self._drop_unused(tenant, job.sha256)

    async def _drop_unused(self, tenant: str, sha256: str) -> None:
        if not await self._datasets.blob_in_use(tenant, sha256):
            await self._objects.delete(names.blob_key(tenant, sha256))

    async def _put(self, tenant: str, dataset: Dataset, name: str, labels: dict[str, str]) -> Dataset:
        return await self._datasets.put(tenant, dataset.model_copy(update={"name": name, "labels": labels}))

    async def _max_dataset_bytes(self, tenant: str) -> int:
        return (await self._tenants.get(tenant)).quota.max_dataset_bytes

    def _lock(self, tenant: str, sha256: str) -> asyncio.Lock:
        return self._locks.setdefault((tenant, sha256), asyncio.Lock())


def _dataset(ingested: Ingested, options: ReadOptions, *, owner: str, source_uri: str = "") -> Dataset:
    return Dataset(
        id=ingested.dataset_id,
        name="",
        sha256=ingested.sha256,
        size_bytes=ingested.size_bytes,
        source_uri=source_uri,
        read_options=options,
        profile=ingested.profile,
        owner=owner,
        created_at=datetime.now(UTC),
    )


def _derived(field: str, source_name: str) -> str:
    """The name of a dataset that was given none: its file's, or the last part of its URI."""
    try:
        name = dataset_name(source_name.rstrip("/").rpartition("/")[2])
    except ValueError as error:
        raise InvalidRequest.of(
            field, f"is required: what the file is called cannot name a dataset: {error}"
        ) from error
    if not name:
        raise InvalidRequest.of(field, "is required")
    return name


def _too_large(size_bytes: int, max_bytes: int) -> QuotaExceeded:
    return QuotaExceeded(f"{size_bytes} bytes or more, and one dataset may have {max_bytes}", limit="max_dataset_bytes")
