"""A bar on standard error while bytes go over, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")

# (bytes so far, bytes in all)
Progress = Callable[[int, int], None]


def with_bar(transfer: Callable[[Progress | None], ResultT], *, doing: str, then: str | None = None) -> ResultT:
    """Runs `transfer(progress)`. then: what goes on once every byte is over, where something does."""
    if not sys.stderr.isatty():
        return transfer(None)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing)

        def progress(done: int, total: int) -> None:
            text = then if then and done >= total else doing
            bar.update(task, completed=done, total=total, description=text)

        return transfer(progress)
