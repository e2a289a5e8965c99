"""A cancellation that a step swallowed, since it ended well all the same."""

from __future__ import annotations

import asyncio


def go_on() -> None:
    """Raises CancelledError in a task that was asked to stop: to be called between two steps."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
