"""Objects as files below a directory. A file appears under its name whole, and on the disk, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mlops.storage.keys import INCOMING

# A writer touches its file with every chunk: one that was silent for so long is dead.
ABANDONED_SECONDS = 24 * 3600
# Deleting and writing below one directory at the same time meet a few times at most.
_TRIES = 20


class Disk:
    """A directory. Writers write below `.incoming` and rename, so that readers never see half a file."""

    def __init__(self, root: Path) -> None:
        """root: made where it is missing. What dead writers left behind a day ago is removed."""
        self._root = root
        self._incoming = root / INCOMING
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def put(self, key: str, path: Path) -> None:
        """Copies a local file in."""
        part = self._part()
        try:
            shutil.copyfile(path, part)
            self._publish(part, key)
        finally:
            part.unlink(missing_ok=True)

    def get(self, key: str, path: Path, *, share: bool) -> None:
        """Copies the file out, or links to it where that is allowed and possible."""
        source = self._file(key)
        if share:
            try:
                os.link(source, path)
                return
            except FileNotFoundError:
                raise
            except OSError:
                # Another disk, or one without links: copy.
                path.unlink(missing_ok=True)
        shutil.copyfile(source, path)

    def read(self, key: str) -> bytes:
        """The file's bytes."""
        return self._file(key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        """Writes a file."""
        draft = self.draft(key)
        try:
            draft.write(data)
            draft.commit()
        finally:
            draft.discard()

    def size(self, key: str) -> int:
        """The file's size in bytes."""
        return self._file(key).stat().st_size

    def move(self, source: str, target: str) -> None:
        """Renames a file."""
        file = self._file(source)
        self._into_place(lambda: file.replace(self._root / target), target)

    def list(self, prefix: str) -> list[str]:
        """Keys below the prefix."""
        found: list[str] = []
        for directory, folders, files in os.walk(self._root / prefix):
            below = Path(directory)
            if below == self._root:
                folders[:] = [folder for folder in folders if folder != INCOMING]
            found.extend((below / file).relative_to(self._root).as_posix() for file in files)
        return sorted(found)

    def delete(self, key: str) -> None:
        """Removes a file, if it is there."""
        path = self._root / key
        if path.is_file():
            path.unlink(missing_ok=True)

    def delete_prefix(self, prefix: str) -> None:
        """Removes a directory. A writer may add to it meanwhile: go on until it is gone."""
        for remaining in reversed(range(_TRIES)):
            try:
                shutil.rmtree(self._root / prefix)
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError:
                if not remaining:
                    raise

    def draft(self, key: str) -> DiskDraft:
        """A file that is being written."""
        return DiskDraft(self._part(), lambda part: self._publish(part, key))

    def reader(self, key: str) -> BinaryIO:
        """Opens the file."""
        return self._file(key).open("rb")

    def _file(self, key: str) -> Path:
        path = self._root / key
        if not path.is_file():
            raise FileNotFoundError(key)
        return path

    def _sweep(self) -> None:
        limit = time.time() - ABANDONED_SECONDS
        for path in self._incoming.iterdir():
            try:
                if path.stat().st_mtime < limit:
                    path.unlink()
            except FileNotFoundError:
                # Another process sweeps as well.
                continue

    def _part(self) -> Path:
        return self._incoming / secrets.token_hex(16)

    def _publish(self, part: Path, key: str) -> None:
        with part.open("rb") as written:
            os.fsync(written.fileno())
        self._into_place(lambda: part.replace(self._root / key), key)

    def _into_place(self, rename: Callable[[], object], target: str) -> None:
        """Renames into a directory that a `delete_prefix` may be removing at this moment."""
        for remaining in reversed(range(_TRIES)):
            try:
                (self._root / target).parent.mkdir(parents=True, exist_ok=True)
                rename()
                return
            except FileNotFoundError:
                if not remaining:
                    raise


class DiskDraft:
    """A file below `.incoming`, until it is published."""

    def __init__(self, part: Path, publish: Callable[[Path], None]) -> None:
        self._part = part
        self._publish = publish
        self._file = part.open("wb")

    def write(self, chunk: bytes) -> None:
        """Appends."""
        self._file.write(chunk)

    def commit(self) -> None:
        """Renames the file to its name."""
        self._file.close()
        self._publish(self._part)

    def discard(self) -> None:
        """Removes the file, if it was not published."""
        self._file.close()
        self._part.unlink(missing_ok=True)
