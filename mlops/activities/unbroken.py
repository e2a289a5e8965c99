"""Work that a cancellation must not break off half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


async def unbroken(work: Coroutine[Any, Any, Result]) -> Result:
    """Awaits work to its end, and only then lets a cancellation through.

    A write whose answer nobody waits for may still arrive: a version that was on its way when its job was cancelled
    would be made after the compensation had looked for it.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as asked:
            cancelled = asked
    if cancelled is not None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("a cancelled step failed while it was brought to its end", error=str(error))
        raise cancelled
    return task.result()
