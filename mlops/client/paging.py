"""Lists that come page by page, fetched only as far as they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

ItemT = TypeVar("ItemT")


async def pages(fetch: Callable[[str], Awaitable[tuple[Iterable[ItemT], str]]]) -> AsyncIterator[ItemT]:
    """Every item of `fetch(page token) -> (items, next token)`, until there is no next page."""
    token = ""
    while True:
        items, token = await fetch(token)
        for item in items:
            yield item
        if not token:
            return
