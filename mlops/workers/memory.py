"""How much memory a process holds of its own, and which processes belong to it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

_DATA = re.compile(rb"^VmData:\s+(\d+) kB", re.MULTILINE)
_STATUS = Path("/proc/self/status")
# Anonymous memory, in RAM or swapped out. Mapped files (datasets, libraries) are shared and do not count.
_OWN = (b"\nRssAnon:", b"\nVmSwap:")
HAS_PROC = _STATUS.exists() and _OWN[0] in _STATUS.read_bytes()
HAS_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a process holds of its own, and how much and how many those that it started."""

    own_bytes: int
    members_bytes: int
    members: int

    @property
    def total_bytes(self) -> int:
        """All of them together."""
        return self.own_bytes + self.members_bytes


def held(leader: int, adopter: int) -> Held:
    """Measures a process and everything it started. adopter: as for `members`."""
    others = members(leader, adopter)
    return Held(own_bytes=own_bytes(leader), members_bytes=sum(own_bytes(pid) for pid in others), members=len(others))


def own_bytes(pid: int) -> int:
    """Memory that the process holds of its own; 0 where it is gone.

    Off Linux this is the whole resident set, which counts mapped files too.
    """
    if not HAS_PROC:
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0
    status, kibibytes = _read(f"/proc/{pid}/status"), 0
    for name in _OWN:
        start = status.find(name)
        if start >= 0:
            kibibytes += int(status[start + len(name) : status.index(b"kB", start)])
    return kibibytes * 1024


def members(leader: int, adopter: int) -> set[int]:
    """What a process started and what that started, without itself.

    adopter: the process that inherits orphans; those in the leader's session are members too.
    """
    if not HAS_CHILDREN:
        try:
            return {child.pid for child in psutil.Process(leader).children(recursive=True)}
        except psutil.Error:
            return set()
    orphans = (pid for pid in _children(adopter) if pid != leader and _session(pid) == leader)
    found: set[int] = set()
    waiting = [*_children(leader), *orphans]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(_children(pid))
    return found


def data_bytes() -> int | None:
    """This process's own mappings, touched or not: what RLIMIT_DATA counts. None off Linux."""
    found = _DATA.search(_read("/proc/self/status"))
    return int(found[1]) * 1024 if found else None


def shown(size_bytes: int) -> str:
    """A size for people: 512.0 MiB."""
    return f"{size_bytes / 1024**3:.2f} GiB" if size_bytes >= 1024**3 else f"{size_bytes / 1024**2:.1f} MiB"


def _children(pid: int) -> Iterable[int]:
    try:
        with os.scandir(f"/proc/{pid}/task") as threads:
            lists = [_read(f"{thread.path}/children") for thread in threads]
    except OSError:
        return []
    return [int(child) for found in lists for child in found.split()]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _read(path: str) -> bytes:
    """A file of /proc; empty where its process is gone, or is another user's."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, 64 * 1024)
    except OSError:
        return b""
    finally:
        os.close(file)
