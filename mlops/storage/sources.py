"""The places outside the store that a tenant's datasets may be copied from."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

import fsspec

from mlops import errors, names
from mlops.jobs.dataset import Source
from mlops.storage.objects import ObjectStore, foreign_errors

_CHUNK_BYTES = 8 * 1024**2
_FIELD = "uri"


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A URI taken apart. A local path is absolute, with its symbolic links resolved."""

    scheme: str
    segments: tuple[str, ...]

    def holds(self, other: _Place) -> bool:
        """Whether the other place is this one or below it."""
        return self.scheme == other.scheme and self.segments == other.segments[: len(self.segments)]

    @property
    def path(self) -> Path:
        """The path of a local place."""
        return Path("/", *self.segments)


class SourceRoots:
    """URL prefixes that the operator allows. `{tenant}` in a prefix stands for the caller's slug.

    What an allowed http server redirects to is read as well: allow only servers that are trusted.
    """

    def __init__(self, roots: tuple[str, ...], options: dict[str, Any] | None = None) -> None:
        """options: handed to fsspec for sources that are not local. Raises InvalidRequest for a bad prefix."""
        self._roots = roots
        self._options = options or {}
        for root in roots:
            _place(root.replace("{tenant}", "tenant"), field="source_roots")

    def check(self, tenant: str, uri: str) -> None:
        """Raises InvalidRequest where the URI is not below an allowed prefix, or is no plain URI."""
        self._allowed(tenant, uri)

    async def copy_in(self, tenant: str, uri: str, store: ObjectStore, *, max_bytes: int) -> Source:
        """Copies what is at the URI into the tenant's blobs, where the same bytes are kept once.

        Raises InvalidRequest as `check` does, NotFound where nothing is there, QuotaExceeded over max_bytes,
        StorageUnavailable where the source or the store does not answer.
        """
        staging = names.staging_key(tenant, secrets.token_hex(16))
        source = await self.copy_to(tenant, uri, store, staging, max_bytes=max_bytes)
        blob = names.blob_key(tenant, source.sha256)
        if await store.exists(blob):
            await store.delete(staging)
        else:
            await store.move(staging, blob)
        return source

    async def copy_to(
        self,
        tenant: str,
        uri: str,
        store: ObjectStore,
        key: str,
        *,
        max_bytes: int,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> Source:
        """Copies what is at the URI to a key of the store; nothing is there before it is whole.

        on_bytes: told how much has arrived so far. Raises as `copy_in` does.
        """
        place = await asyncio.to_thread(self._allowed, tenant, uri)
        foreign = foreign_errors(place.scheme)
        file = await _translated(uri, foreign, lambda: self._open(tenant, uri, place))
        try:
            async with store.open_upload(key) as upload:
                while chunk := await _translated(uri, foreign, lambda: file.read(_CHUNK_BYTES)):
                    if upload.size_bytes + len(chunk) > max_bytes:
                        raise errors.QuotaExceeded(
                            f"{uri!r} is larger than the {max_bytes} bytes that one dataset may have",
                            limit="max_dataset_bytes",
                        )
                    await upload.write(chunk)
                    on_bytes(upload.size_bytes)
                return await upload.commit()
        finally:
            await asyncio.shield(asyncio.to_thread(file.close))

    def _allowed(self, tenant: str, uri: str) -> _Place:
        place = _place(uri)
        roots = [root.replace("{tenant}", tenant) for root in self._roots]
        if any(_place(root).holds(place) for root in roots):
            return place
        allowed = f"allowed are {', '.join(roots)}" if roots else "none is allowed here; upload the file instead"
        raise errors.InvalidRequest.of(_FIELD, f"{uri!r} is not below a place that may be read: {allowed}")

    def _open(self, tenant: str, uri: str, place: _Place) -> BinaryIO:
        if place.scheme != "file":
            system, path = fsspec.core.url_to_fs(uri, **self._options)
            if system.info(path)["type"] != "file":
                raise IsADirectoryError(uri)
            return cast("BinaryIO", system.open(path, "rb", cache_type="none"))
        # Not blocking: a pipe without a writer would wait for ever. No link: what was resolved is what is read.
        descriptor = os.open(place.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        file = os.fdopen(descriptor, "rb")
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(uri)
            # A directory on the way may have become a link since it was resolved.
            now = self._allowed(tenant, uri)
            if not stat.S_ISREG(status.st_mode) or not os.path.samestat(status, os.lstat(now.path)):
                raise PermissionError(uri)
        except BaseException:
            file.close()
            raise
        return file


async def _translated(uri: str, foreign: tuple[type[Exception], ...], call: Any) -> Any:
    """Runs a blocking call on a source in a thread."""
    try:
        return await asyncio.to_thread(call)
    except IsADirectoryError as exc:
        raise errors.InvalidRequest.of(_FIELD, f"{uri!r} is a directory; name one file") from exc
    except PermissionError as exc:
        raise errors.InvalidRequest.of(_FIELD, f"the platform may not read {uri!r}") from exc
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise errors.NotFound.of("source", uri) from exc
    except foreign as exc:
        raise errors.StorageUnavailable(f"{uri!r} could not be read: {type(exc).__name__}") from exc


def _place(uri: str, *, field: str = _FIELD) -> _Place:
    """Takes a URI apart: file:///srv/data/x.csv, /srv/data/x.csv, s3://bucket/x.csv."""
    scheme, found, rest = uri.partition("://")
    if not found:
        scheme, rest = "file", uri
    scheme = scheme.lower()
    # Only in file URIs do percents stand for something; in a bucket they are part of the name.
    path = unquote(rest) if found and scheme == "file" else rest
    if not scheme.isalnum() or not path.isprintable():
        raise errors.InvalidRequest.of(field, f"{uri!r} is no URI; write s3://bucket/file.csv, or an absolute path")
    if scheme == "file":
        path = path.removeprefix("localhost")
        if not path.startswith("/"):
            raise errors.InvalidRequest.of(field, f"{uri!r} is not an absolute path")
        path = path[1:]
    segments = tuple(path.removesuffix("/").split("/")) if path not in ("", "/") else ()
    if any(_is_odd(segment) or (scheme != "file" and _is_odd(unquote(segment))) for segment in segments):
        raise errors.InvalidRequest.of(field, f"{uri!r} holds an empty part, '.', '..', '\\' or '::'")
    if scheme != "file":
        if not segments:
            raise errors.InvalidRequest.of(field, f"{uri!r} names no bucket or host")
        return _Place(scheme=scheme, segments=segments)
    try:
        resolved = Path("/", *segments).resolve()
    except (OSError, RuntimeError) as exc:
        raise errors.InvalidRequest.of(field, f"{uri!r} cannot be resolved: {type(exc).__name__}") from exc
    return _Place(scheme=scheme, segments=resolved.parts[1:])


def _is_odd(segment: str) -> bool:
    """Whether a part of a path could mean something else than a name."""
    return segment in ("", ".", "..") or any(mark in segment for mark in ("/", "\\", "::"))
