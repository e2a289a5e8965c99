"""The object store: bytes under keys, on a local disk or in a bucket.

A bucket keeps the parts of an upload whose process was killed: give it a lifecycle rule that aborts
incomplete multipart uploads after a few days.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import unquote, urlsplit

from mlops import errors
from mlops.jobs.dataset import Source
from mlops.storage.backend import Backend, Draft
from mlops.storage.bucket import Bucket
from mlops.storage.disk import Disk
from mlops.storage.keys import checked

_T = TypeVar("_T")

# Storage waits, it does not compute. asyncio's own pool has cores + 4 threads and looks up host names too:
# a slow bucket would stop both.
_THREADS = 32
_FILES_AT_ONCE = 8


class ObjectStore:
    """Bytes under keys that `names` builds. Every method may raise StorageUnavailable; a bad key is an InvalidRequest."""

    def __init__(self, backend: Backend, foreign: tuple[type[Exception], ...] = (OSError,), *, url: str = "") -> None:
        """foreign: what the backend raises when it fails. url: where it is, for people."""
        self._url = url.rstrip("/")
        self._backend = backend
        self._foreign = foreign
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="storage")

    @classmethod
    def open(cls, url: str, options: dict[str, Any] | None = None) -> Self:
        """The store below an fsspec URL (file:///srv/mlops, s3://bucket/prefix).

        options: handed to fsspec (endpoint_url, key, secret, …). Raises StorageUnavailable for a directory
        that cannot be made, InvalidRequest for a URL that cannot be one.
        """
        parts = urlsplit(url)
        try:
            if parts.scheme in ("", "file"):
                path = Path(unquote(parts.path) if parts.scheme else url)
                if not path.is_absolute() or parts.netloc not in ("", "localhost"):
                    raise errors.InvalidRequest.of("storage_url", f"{url!r} is not an absolute path of this machine")
                return cls(Disk(path), url=path.as_uri())
            foreign = foreign_errors(parts.scheme)
            return cls(Bucket(url, options or {}), foreign, url=url)
        except (ValueError, ImportError) as exc:
            raise errors.InvalidRequest.of("storage_url", f"{url!r} cannot be opened: {exc}") from exc
        except OSError as exc:
            raise _unavailable(url, exc) from exc

    def url_of(self, prefix: str) -> str:
        """Where what is below a prefix can be found by other programs: file:///srv/mlops/a/b, s3://bucket/a/b."""
        return f"{self._url}/{checked(prefix)}"

    def close(self) -> None:
        """Lets the threads end. Calls that are under way finish."""
        self._threads.shutdown(wait=False)

    async def put_file(self, key: str, path: Path) -> None:
        """Stores a local file under the key. Raises FileNotFoundError where the local file is missing."""
        if not await self._in_thread(path.is_file):
            raise FileNotFoundError(path)
        await self._run(key, lambda: self._backend.put(checked(key), path))

    async def get_file(self, key: str, path: Path, *, share: bool = False) -> None:
        """Writes the object to a local path: whole, or not at all. Raises NotFound.

        share: the file will only ever be read, so that it may be a link to the store's own.
        """
        part = path.with_name(f".{secrets.token_hex(8)}.part")

        def fetch() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._backend.get(checked(key), part, share=share)
                part.replace(path)
            finally:
                # A link renamed onto a link of the same file stays where it was.
                part.unlink(missing_ok=True)

        await self._run(key, fetch)

    async def read_bytes(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""
        return await self._run(key, lambda: self._backend.read(checked(key)))

    async def write_bytes(self, key: str, data: bytes) -> None:
        """Stores bytes under the key, in place of what was there."""
        await self._run(key, lambda: self._backend.write(checked(key), data))

    async def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        try:
            await self.size(key)
        except errors.NotFound:
            return False
        return True

    async def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""
        return await self._run(key, lambda: self._backend.size(checked(key)))

    async def move(self, source: str, target: str) -> None:
        """Renames an object, in place of what was at `target`. Raises NotFound. In a bucket it is a copy."""
        await self._run(source, lambda: self._backend.move(checked(source), checked(target)))

    async def list(self, prefix: str = "") -> list[str]:
        """The keys below a prefix (whole segments: a/b lists a/b/c, not a/bc), sorted; all for ""."""
        return await self._run(prefix, lambda: self._backend.list(checked(prefix) if prefix else ""))

    async def delete(self, key: str) -> None:
        """Removes the object; removing it again does nothing."""
        await self._run(key, lambda: self._backend.delete(checked(key)))

    async def delete_prefix(self, prefix: str) -> None:
        """Removes everything below the prefix; removing it again does nothing."""
        await self._run(prefix, lambda: self._backend.delete_prefix(checked(prefix)))

    async def put_dir(self, prefix: str, directory: Path, *, last: str | None = None) -> None:
        """Stores every file below a directory. `last` names the one that is stored after all others are there.

        A reader that finds `last` finds the rest. Raises FileNotFoundError where `last` is missing.
        """
        found = await self._in_thread(lambda: sorted(path for path in directory.rglob("*") if path.is_file()))
        files = {path.relative_to(directory).as_posix(): path for path in found}
        if last is not None and last not in files:
            raise FileNotFoundError(directory / last)
        gate = asyncio.Semaphore(_FILES_AT_ONCE)

        async def put(name: str) -> None:
            async with gate:
                await self.put_file(f"{prefix}/{name}", files[name])

        try:
            async with asyncio.TaskGroup() as group:
                for name in files:
                    if name != last:
                        group.create_task(put(name))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        if last is not None:
            await put(last)

    def open_upload(self, key: str) -> Upload:
        """An object to be written in chunks: `async with store.open_upload(key) as upload`."""
        return Upload(checked(key), self._backend, self._run)

    async def read_chunks(self, key: str, chunk_bytes: int = 8 * 1024**2) -> AsyncGenerator[bytes, None]:
        """The object's bytes in chunks of that size (the last one smaller). Raises NotFound."""
        file: BinaryIO = await self._run(key, lambda: self._backend.reader(checked(key)))
        try:
            while chunk := await self._run(key, lambda: file.read(chunk_bytes)):
                yield chunk
        finally:
            await asyncio.shield(self._run(key, file.close))

    async def _run(self, key: str, call: Callable[[], _T]) -> _T:
        """Runs a blocking call in a thread, and translates what it raises."""
        try:
            return await self._in_thread(call)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
            raise errors.NotFound.of("stored object", key) from exc
        except self._foreign as exc:
            raise _unavailable(key, exc) from exc

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class Upload:
    """An object that arrives in chunks, hashed and counted as it goes. Leaving without `commit` removes it."""

    def __init__(self, key: str, backend: Backend, run: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._key = key
        self._backend = backend
        self._run = run
        self._hash = hashlib.sha256()
        self._draft: Draft | None = None
        self._size_bytes = 0
        # A cancelled wait leaves its thread at work: the next call takes its turn behind it.
        self._turn = threading.Lock()

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written, in hex."""
        return self._hash.hexdigest()

    @property
    def size_bytes(self) -> int:
        """How much was written."""
        return self._size_bytes

    async def write(self, chunk: bytes) -> None:
        """Appends a chunk."""

        def append() -> None:
            with self._turn:
                self._open_draft().write(chunk)
                self._hash.update(chunk)
                self._size_bytes += len(chunk)

        await self._run(self._key, append)

    async def commit(self) -> Source:
        """Makes the object visible under its key."""

        def publish() -> None:
            with self._turn:
                self._open_draft().commit()

        await self._run(self._key, publish)
        return Source(sha256=self.sha256, size_bytes=self.size_bytes)

    async def __aenter__(self) -> Self:
        def start() -> None:
            with self._turn:
                self._draft = self._backend.draft(self._key)

        await self._run(self._key, start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        def discard() -> None:
            with self._turn:
                if self._draft is not None:
                    self._draft.discard()

        try:
            await asyncio.shield(self._run(self._key, discard))
        except errors.MlopsError:
            # What ended the upload matters more. The remains go by the bucket's lifecycle rule, or a day later.
            if error is None:
                raise

    def _open_draft(self) -> Draft:
        if self._draft is None:
            raise RuntimeError("an upload is used inside `async with`")
        return self._draft


def foreign_errors(scheme: str) -> tuple[type[Exception], ...]:
    """What a bucket's client raises when it fails. s3fs turns most answers into OSErrors, but not all."""
    if scheme not in ("s3", "s3a"):
        return (OSError,)
    import aiohttp
    import botocore.exceptions

    # A credential that is missing or of a wrong form, and an endpoint that is none, are BotoCoreErrors.
    return (OSError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, aiohttp.ClientError)


def _unavailable(key: str, exc: Exception) -> errors.StorageUnavailable:
    """Paths of the machine stay out of the message: it may reach a tenant."""
    reason = (os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else "") or type(exc).__name__
    return errors.StorageUnavailable(f"Storage failed at {key!r}: {reason}; the same call may work later")
