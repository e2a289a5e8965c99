"""Fetching the files of a batch job's result, however often the connection under it breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO
from uuid import uuid4

import grpc

from mlops import errors
from mlops.client.connection import Connection
from mlops.jobs.inference import BatchResult
from mlops.v1 import jobs_pb2
from mlops.wire import status

# Called with (bytes received, bytes in all), first with 0 and last with all of them, in the client's own thread.
DownloadProgress = Callable[[int, int], None]

# CANCELLED: a gateway that is being stopped ends its streams so.
_RESUMABLE = (errors.Unavailable, errors.Cancelled)


class ResultPart(StrEnum):
    """Which files of a result."""

    PREDICTIONS = "predictions"
    REJECTS = "rejects"


_NUMBERS = {
    ResultPart.PREDICTIONS: jobs_pb2.RESULT_PART_PREDICTIONS,
    ResultPart.REJECTS: jobs_pb2.RESULT_PART_REJECTS,
}


def result_part(part: ResultPart | str) -> ResultPart:
    """The part of that name. Raises InvalidRequest."""
    if part not in tuple(ResultPart):
        raise errors.InvalidRequest.of("part", f"{str(part)!r} is none of {', '.join(ResultPart)}")
    return ResultPart(part)


class Download:
    """One download into one directory. Each file comes under a name of its own, and is renamed once it is whole."""

    def __init__(
        self,
        connection: Connection,
        job_id: str,
        directory: Path,
        part: ResultPart,
        result: BatchResult,
        *,
        overwrite: bool,
        progress: DownloadProgress | None,
    ) -> None:
        self.files: list[Path] = []
        self._connection = connection
        self._job_id = job_id
        self._directory = directory
        self._part = part
        self._overwrite = overwrite
        self._progress = progress or (lambda received, total: None)
        expected = result.report.rejects if part is ResultPart.REJECTS else result.report.files
        self._expected = {file.name: file.size_bytes for file in expected}
        self._total = sum(self._expected.values())
        self._received = 0

    async def run(self) -> None:
        """Fetches every file; what came whole stays when the connection breaks, and the rest is asked for again."""
        patience = self._connection.retry.patience.total_seconds()
        attempt, give_up_at, had = 0, time.monotonic() + patience, 0
        self._progress(0, self._total)
        while True:
            hint: float | None = None
            try:
                await self._stream()
                return
            except grpc.RpcError as exc:
                cause, error, hint = exc, status.from_rpc_error(exc), status.retry_after_seconds(exc)
            if len(self.files) > had:
                attempt, give_up_at, had = 0, time.monotonic() + patience, len(self.files)
            attempt += 1
            delay = self._connection.retry.delay_seconds(attempt, hint=hint)
            if not isinstance(error, _RESUMABLE) or time.monotonic() + delay > give_up_at:
                raise self._connection.explain(error) from cause
            await asyncio.sleep(delay)

    async def _stream(self) -> None:
        """One stream: the files behind those that are here."""
        request = jobs_pb2.DownloadResultRequest(
            job_id=self._job_id, part=_NUMBERS[self._part], skip_files=len(self.files)
        )
        stream = self._connection.jobs.DownloadResult(request, metadata=self._connection.metadata)
        incoming: _Incoming | None = None
        try:
            async for message in _pieces(stream):
                if message.WhichOneof("piece") == "file":
                    if incoming is not None:
                        raise incoming.mismatch()
                    incoming = self._open(message.file)
                elif incoming is None:
                    raise errors.ChecksumMismatch("the gateway sent more bytes than it announced; download again")
                else:
                    await incoming.write(message.chunk)
                    self._progress(self._received + incoming.received, self._total)
                if incoming is not None and incoming.is_whole:
                    await self._keep(incoming)
                    incoming = None
            if incoming is not None:
                raise incoming.mismatch()
        finally:
            stream.cancel()
            if incoming is not None:
                incoming.drop()
        absent = set(self._expected) - {path.name for path in self.files}
        if absent:
            raise errors.ChecksumMismatch(
                f"the gateway sent {len(self.files)} of {len(self._expected)} files, {min(absent)} not among them; "
                "download again"
            )

    def _open(self, header: jobs_pb2.ResultFile) -> _Incoming:
        name = plain_name(header.name)
        target = self._directory / name
        if target in self.files:
            raise errors.ChecksumMismatch(f"the gateway sent the file {name!r} twice; download again")
        if not self._overwrite and target.exists():
            raise errors.AlreadyExists(
                f"{str(target)!r} exists; choose another directory, or say that it may be overwritten"
            )
        return _Incoming(target, self._expected.get(name, header.size_bytes))

    async def _keep(self, incoming: _Incoming) -> None:
        await asyncio.to_thread(incoming.keep)
        self._received += incoming.received
        self.files.append(incoming.target)


async def _pieces(
    stream: AsyncIterable[jobs_pb2.DownloadResultResponse],
) -> AsyncIterator[jobs_pb2.DownloadResultResponse]:
    async for message in stream:
        # A piece of a kind that only a newer client knows is passed over.
        if message.WhichOneof("piece") is not None:
            yield message


class _Incoming:
    """A file on its way, beside the place where it will be."""

    def __init__(self, target: Path, size_bytes: int) -> None:
        self.target = target
        self.received = 0
        self._size_bytes = size_bytes
        self._path = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
        try:
            self._file: BinaryIO = self._path.open("xb")
        except OSError as exc:
            raise _unwritable(target, exc) from exc

    @property
    def is_whole(self) -> bool:
        """Whether every byte that was announced is here."""
        return self.received >= self._size_bytes

    async def write(self, chunk: bytes) -> None:
        """Takes bytes in, in a thread: a disk may be slow."""
        self.received += len(chunk)
        if self.received > self._size_bytes:
            raise self.mismatch()
        try:
            await asyncio.to_thread(self._file.write, chunk)
        except OSError as exc:
            raise _unwritable(self.target, exc) from exc

    def keep(self) -> None:
        """The file is whole: it gets its name."""
        try:
            self._file.close()
            self._path.replace(self.target)
        except OSError as exc:
            raise _unwritable(self.target, exc) from exc

    def mismatch(self) -> errors.ChecksumMismatch:
        """The error for too few or too many bytes."""
        return errors.ChecksumMismatch(
            f"{self.target.name} came with {self.received} bytes instead of {self._size_bytes}; download again"
        )

    def drop(self) -> None:
        """Leaves nothing behind."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def plain_name(name: str) -> str:
    """The name, which is one of a file and of nothing else. Raises ChecksumMismatch for a path, and for what hides."""
    is_plain = PurePosixPath(name).name == name == PureWindowsPath(name).name and ":" not in name
    if not name or not is_plain or name.startswith(".") or not name.isprintable():
        raise errors.ChecksumMismatch(
            f"the gateway sent {name!r}, which is no name of a file; nothing of it was written"
        )
    return name


def directory_for(to: str | Path) -> Path:
    """The directory to write to, made where it is missing. Raises InvalidRequest where there can be none."""
    directory = Path(to)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise errors.InvalidRequest.of("to", f"{str(directory)!r} can be no directory: {exc.strerror or exc}") from exc
    return directory


def _unwritable(path: Path, exc: OSError) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(f"{str(path)!r} cannot be written: {exc.strerror or exc}")
