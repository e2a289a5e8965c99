"""Foreign errors while data is read: they become DataInvalid, unless the machine is at fault."""

from __future__ import annotations

import csv
import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from mlops import errors

_MESSAGE_LETTERS = 300
_MALLOC = re.compile(r"size (\d+) failed")
# What pyarrow and codecs raise at bytes that they do not understand.
_FOREIGN = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError, EOFError, csv.Error)


@contextmanager
def refusing(what: str, *, hint: str = "", plausible_bytes: int | None = None) -> Iterator[None]:
    """Turns a reader's errors into DataInvalid: "what: its message". Running out of memory or disk passes.

    plausible_bytes: a reader that asks for more than this at once was misled by damaged data.
    """
    try:
        yield
    except MemoryError as exc:
        asked = _MALLOC.search(str(exc))
        if plausible_bytes is None or asked is None or int(asked[1]) <= plausible_bytes:
            raise
        raise errors.DataInvalid(f"{what}: it claims to hold {asked[1]} bytes", hint=hint) from exc
    except _FOREIGN as exc:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise errors.StorageUnavailable("The disk of this host is full; the same call may work later") from exc
        raise errors.DataInvalid(f"{what}: {brief(exc)}", hint=hint) from exc


def brief(exc: BaseException) -> str:
    """The first line of a message, of bounded length."""
    lines = str(exc).strip().splitlines()
    text = lines[0] if lines else type(exc).__name__
    return text if len(text) <= _MESSAGE_LETTERS else text[:_MESSAGE_LETTERS] + "…"
