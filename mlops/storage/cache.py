"""Objects kept as files on a host, so that many processes map one copy."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops import errors
from mlops.storage.disk import ABANDONED_SECONDS
from mlops.storage.keys import checked
from mlops.storage.objects import ObjectStore

# A file that is evicted between its download and its lock is fetched again; each time takes a full cache.
_TRIES = 10


class HostCache:
    """Files of one store by their keys, for keys whose bytes never change.

    A file in use carries a shared lock (flock), so that several processes of a host may share the directory.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """max_bytes: how much is kept; files in use may exceed it. 0 keeps nothing that is not in use."""
        self._directory = directory
        self._max_bytes = max_bytes
        self._downloads: dict[Path, asyncio.Task[None]] = {}

    async def fetch(self, store: ObjectStore, key: str) -> Path:
        """The object as a local file, downloaded at most once at a time. It may be evicted later: see `hold`.

        The file is read-only by agreement: it may be the store's own. Raises NotFound and StorageUnavailable.
        """
        path = self._path(key)
        if await asyncio.to_thread(_touch, path):
            return path
        download = self._downloads.get(path)
        if download is None:
            download = asyncio.create_task(self._download(store, key, path))
            self._downloads[path] = download
            download.add_done_callback(lambda done: self._forget(path, done))
        # One of those who wait may go away; the others still get their file.
        await asyncio.shield(download)
        return path

    @asynccontextmanager
    async def hold(self, store: ObjectStore, key: str) -> AsyncIterator[Path]:
        """The object as a local file that stays there during the block."""
        for _ in range(_TRIES):
            path = await self.fetch(store, key)
            lock = await asyncio.to_thread(_share, path)
            if lock is not None:
                break
        else:
            raise errors.StorageUnavailable(f"The cache of this host loses {key!r} faster than it can be used")
        try:
            yield path
        finally:
            os.close(lock)
            await asyncio.shield(asyncio.to_thread(self._make_room, 0))

    async def _download(self, store: ObjectStore, key: str, path: Path) -> None:
        size = await store.size(key)
        await asyncio.to_thread(self._make_room, size)
        await store.get_file(key, path, share=True)
        await asyncio.to_thread(_touch, path)

    def _forget(self, path: Path, done: asyncio.Task[None]) -> None:
        self._downloads.pop(path, None)
        if not done.cancelled():
            # Marks the error as seen: those who waited for it may all have gone.
            done.exception()

    def _path(self, key: str) -> Path:
        return self._directory / checked(key)

    def _make_room(self, wanted_bytes: int) -> None:
        """Removes the files that were used longest ago, and are not in use, until `wanted_bytes` more would fit."""
        files = [file for file in self._files() if not _is_abandoned(file)]
        excess = sum(file.size_bytes for file in files) + wanted_bytes - self._max_bytes
        for file in sorted(files, key=lambda file: file.used_at):
            if excess <= 0:
                return
            if not file.is_part and _remove_unused(file.path):
                excess -= file.size_bytes

    def _files(self) -> Iterator[_File]:
        for directory, _, names in os.walk(self._directory):
            for name in names:
                path = Path(directory, name)
                try:
                    found = path.stat()
                except FileNotFoundError:
                    # Another process evicts as well.
                    continue
                yield _File(path=path, size_bytes=found.st_size, used_at=found.st_mtime, changed_at=found.st_ctime)


@dataclass(frozen=True, kw_only=True)
class _File:
    path: Path
    size_bytes: int
    used_at: float
    changed_at: float

    @property
    def is_part(self) -> bool:
        """Whether it is still being downloaded; `ObjectStore.get_file` names it so."""
        return self.path.name.startswith(".")


def _touch(path: Path) -> bool:
    """Marks a file as just used. Whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _share(path: Path) -> int | None:
    """A descriptor that keeps the file from being evicted until it is closed; None where the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if _is_at(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def _remove_unused(path: Path) -> bool:
    """Removes a file that nobody holds. Whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the path still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_abandoned(file: _File) -> bool:
    """Removes what a killed download left behind long ago. Whether it did."""
    if not file.is_part or file.changed_at > time.time() - ABANDONED_SECONDS:
        return False
    file.path.unlink(missing_ok=True)
    return True
