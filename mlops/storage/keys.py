"""The rule for a storage key: a relative path of plain segments, so that none leads out of the store's root."""

from __future__ import annotations

from mlops import errors

# Where files arrive on a local disk before they are renamed; no key may start with it.
INCOMING = ".incoming"
# Characters that fsspec reads as patterns or versions.
_SPECIAL = frozenset("*?[]\\")


def checked(key: str) -> str:
    """The key, if it is one. Raises InvalidRequest for whatever could leave the root, or mean several objects."""
    segments = key.split("/")
    if any(segment in ("", ".", "..") for segment in segments) or segments[0] == INCOMING:
        raise errors.InvalidRequest.of("key", f"{key!r} is no storage key; use a relative path of plain names")
    if any(letter in _SPECIAL or not letter.isprintable() for letter in key):
        raise errors.InvalidRequest.of("key", f"{key!r} holds a character that no storage key may hold")
    return key
