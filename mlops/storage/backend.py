"""What an object store is made of: blocking calls, run in threads by `ObjectStore`. Errors are the medium's own."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol


class Draft(Protocol):
    """An object that is being written; nothing is visible under its key before `commit`."""

    def write(self, chunk: bytes) -> None:
        """Appends."""

    def commit(self) -> None:
        """Makes the object visible, whole."""

    def discard(self) -> None:
        """Removes what was written."""


class Backend(Protocol):
    """One kind of medium. Keys are checked already. What is missing raises FileNotFoundError."""

    def put(self, key: str, path: Path) -> None:
        """Stores a local file."""

    def get(self, key: str, path: Path, *, share: bool) -> None:
        """Writes the object to `path`; with `share` it may become a hard link to the stored file."""

    def read(self, key: str) -> bytes:
        """The object's bytes."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Stores bytes."""

    def size(self, key: str) -> int:
        """The object's size in bytes."""
        ...

    def move(self, source: str, target: str) -> None:
        """Renames; replaces what was at `target`."""

    def list(self, prefix: str) -> list[str]:
        """The keys below `prefix` (all for ""), sorted."""
        ...

    def delete(self, key: str) -> None:
        """Removes the object, if it is there."""

    def delete_prefix(self, prefix: str) -> None:
        """Removes everything below `prefix`."""

    def draft(self, key: str) -> Draft:
        """Starts to write an object of unknown size."""
        ...

    def reader(self, key: str) -> BinaryIO:
        """Opens the object for reading from its start."""
        ...
