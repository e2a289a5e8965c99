"""Pages of a list: how large one is, and the token that leads to the next.

A token is opaque to its holder. It holds the place of the last item of its page, not a row number, so that
items which come or go in between neither repeat nor hide one. It is bound to the list that gave it: a token
handed to another tenant's list, or to the same list with other filters, is refused. It is not signed: it
grants nothing, for whoever forges one only picks a place in a list that is open to them anyway.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlops.errors import InvalidRequest

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
# Longer ones are refused before they are decoded. Ours, and Temporal's inside ours, stay far below.
MAX_TOKEN_CHARS = 8192


def page_size(requested: int) -> int:
    """How many items a page holds: what was asked for, or 100 for 0.

    Raises InvalidRequest, field `page_size`, below 0 or above 1000.
    """
    if not 0 <= requested <= MAX_PAGE_SIZE:
        raise InvalidRequest.of("page_size", f"must be 1-{MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}")
    return requested or DEFAULT_PAGE_SIZE


def invalid_page_token() -> InvalidRequest:
    """The one wording for a token that this list did not give."""
    return InvalidRequest.of("page_token", "was not given by this list; start again without one")


@dataclass(frozen=True)
class Listing:
    """One list with its filters: writes and reads its page tokens."""

    fingerprint: str

    @classmethod
    def of(cls, kind: str, **filters: Any) -> Listing:
        """The list `kind` under these filters (JSON values, or anything whose str() says all of it)."""
        text = json.dumps([kind, filters], sort_keys=True, separators=(",", ":"), default=str)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:16])

    def token(self, *place: str) -> str:
        """The URL-safe token of the page behind `place`, what the last item is found by."""
        text = json.dumps([self.fingerprint, *place], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def place(self, token: str, parts: int) -> tuple[str, ...] | None:
        """The place, of so many parts, that a token holds; None for the empty token, which is the first page's.

        Raises InvalidRequest, field `page_token`, for anything that this list did not give.
        """
        if not token:
            return None
        if len(token) > MAX_TOKEN_CHARS:
            raise invalid_page_token()
        try:
            padded = token.encode("ascii") + b"=" * (-len(token) % 4)
            found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if not isinstance(found, list) or not all(_is_text(part) for part in found):
                raise invalid_page_token()
        except (ValueError, RecursionError) as exc:
            raise invalid_page_token() from exc
        if len(found) != parts + 1 or found[0] != self.fingerprint:
            raise invalid_page_token()
        return tuple(found[1:])

    def token_at(self, time: datetime, id: str) -> str:
        """The token of a list that is ordered by time and id."""
        return self.token(time.astimezone(UTC).isoformat(), id)

    def place_at(self, token: str) -> tuple[datetime, str] | None:
        """The inverse of `token_at`; None and errors as for `place`."""
        place = self.place(token, 2)
        if place is None:
            return None
        try:
            time = datetime.fromisoformat(place[0])
        except ValueError as exc:
            raise invalid_page_token() from exc
        if time.tzinfo is not UTC:
            raise invalid_page_token()
        return time, place[1]


def _is_text(part: object) -> bool:
    """Whether a part is a text that every database takes: no NUL, and no half of a surrogate pair."""
    return isinstance(part, str) and "\0" not in part and part == part.encode("utf-8", "ignore").decode()
