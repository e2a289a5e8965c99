"""The memory that this process holds of its own."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

import psutil

INTERVAL_SECONDS = 0.05
STATM = Path("/proc/self/statm")


def own_bytes() -> int:
    """Resident memory that is not backed by files: a memory-mapped dataset does not count.

    Where the kernel does not tell the two apart (no /proc), all resident memory.
    """
    if not STATM.exists():
        return int(psutil.Process().memory_info().rss)
    _, resident, shared, *_ = STATM.read_text(encoding="ascii").split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


class PeakMemory:
    """While the context lasts, samples `own_bytes` twenty times a second and keeps the largest, in `bytes`.

    A spike shorter than 50 ms can be missed; the kernel's own high-water mark counts mapped files too.
    """

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self.bytes = 0
        self._interval = interval_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self.bytes = own_bytes()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.bytes = max(self.bytes, own_bytes())

    def _sample(self) -> None:
        while not self._ended.wait(self._interval):
            self.bytes = max(self.bytes, own_bytes())
