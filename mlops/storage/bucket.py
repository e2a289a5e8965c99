"""Objects in a bucket, through fsspec: S3 and whatever else stores an object at once or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

# Parts of an upload of unknown size. S3 takes 10,000 parts at most, so that they grow with what was written.
_PART_BYTES = 16 * 1024**2
_PARTS_BEFORE_GROWTH = 5000
_DELETE_AT_ONCE = 1000
_DELETE_ROUNDS = 5


class Bucket:
    """A prefix of a bucket."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        """options: handed to fsspec. Listings are never cached: other processes write too."""
        self._fs, root = fsspec.core.url_to_fs(url, **{**options, "use_listings_cache": False})
        self._root = str(root).strip("/")

    def put(self, key: str, path: Path) -> None:
        """Uploads a file, in parts where it is large."""
        self._fs.put_file(str(path), self._path(key))

    def get(self, key: str, path: Path, *, share: bool) -> None:
        """Downloads the object. There is nothing to link to: `share` changes nothing."""
        del share
        self.size(key)
        self._fs.get_file(self._path(key), str(path))

    def read(self, key: str) -> bytes:
        """The object's bytes."""
        return cast("bytes", self._fs.cat_file(self._path(key)))

    def write(self, key: str, data: bytes) -> None:
        """Stores bytes."""
        self._fs.pipe_file(self._path(key), data)

    def size(self, key: str) -> int:
        """The object's size in bytes."""
        info = self._fs.info(self._path(key))
        if info["type"] != "file":
            raise FileNotFoundError(key)
        return int(info["size"])

    def move(self, source: str, target: str) -> None:
        """Copies inside the bucket, then deletes the original."""
        self._fs.cp_file(self._path(source), self._path(target))
        self._fs.rm_file(self._path(source))

    def list(self, prefix: str) -> list[str]:
        """Keys below the prefix."""
        folder = self._path(prefix)
        found = (str(path).strip("/") for path in self._fs.find(folder))
        return sorted(path[len(self._root) + 1 :] for path in found if path.startswith(f"{folder}/"))

    def delete(self, key: str) -> None:
        """Removes the object; deleting what is not there is no error in a bucket."""
        self._fs.rm_file(self._path(key))

    def delete_prefix(self, prefix: str) -> None:
        """Removes objects by the thousand. A bulk deletion does not report what it left: look again."""
        for _ in range(_DELETE_ROUNDS):
            keys = self.list(prefix)
            if not keys:
                return
            for start in range(0, len(keys), _DELETE_AT_ONCE):
                self._fs.rm([self._path(key) for key in keys[start : start + _DELETE_AT_ONCE]])
        raise OSError(f"objects below {prefix!r} could not be deleted")

    def draft(self, key: str) -> BucketDraft:
        """A multipart upload."""
        return BucketDraft(self._fs.open(self._path(key), "wb", block_size=_PART_BYTES, autocommit=False))

    def reader(self, key: str) -> BinaryIO:
        """Opens the object; every read is one request."""
        self.size(key)
        return cast("BinaryIO", self._fs.open(self._path(key), "rb", cache_type="none"))

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root


class BucketDraft:
    """A multipart upload that is completed, or aborted."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._committed = False

    def write(self, chunk: bytes) -> None:
        """Buffers, and sends a part when one is full."""
        self._file.blocksize = max(_PART_BYTES, self._file.tell() // _PARTS_BEFORE_GROWTH)
        self._file.write(chunk)

    def commit(self) -> None:
        """Sends the rest and completes the upload."""
        self._file.close()
        self._file.commit()
        self._committed = True

    def discard(self) -> None:
        """Aborts the upload, if it was not completed."""
        if self._committed:
            return
        # A file that is not closed sends its buffer when it is collected.
        self._file.closed = True
        self._file.discard()
