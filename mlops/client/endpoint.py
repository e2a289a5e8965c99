"""Where the gateway is and who calls it: arguments over environment variables over the current context."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlops import errors
from mlops.client.contexts import Context, ContextFile, default_path

ADDRESS_VARIABLE = "MLOPS_ADDRESS"
API_KEY_VARIABLE = "MLOPS_API_KEY"
CONTEXT_VARIABLE = "MLOPS_CONTEXT"
CA_FILE_VARIABLE = "MLOPS_CA_FILE"

DEFAULT_ADDRESS = "127.0.0.1:7300"
DEFAULT_PORT = 7300

_SCHEMES = {"grpc": False, "http": False, "grpcs": True, "https": True}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A gateway: `target` is host:port. `ca_pem` None means the system's authorities."""

    target: str
    api_key: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_pem: bytes | None = field(default=None, repr=False)


def resolve(
    address: str | None = None,
    api_key: str | None = None,
    *,
    context: str | None = None,
    tls: bool | None = None,
    ca_file: str | Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Endpoint:
    """The endpoint that these arguments, the environment and the config file name together.

    An explicit `context` (or MLOPS_CONTEXT) must exist. A key of the config file is only ever sent to the
    address that stands beside it. Raises NotFound for an unknown context, InvalidRequest for a bad address.
    """
    chosen = _context(context, environ)
    # A context that was asked for by name in a call is meant more than what lies about in the environment.
    explicit = chosen if context else None
    wanted = address or (explicit.address if explicit else None) or environ.get(ADDRESS_VARIABLE)
    from_context = chosen is not None and (not wanted or wanted == chosen.address)
    if not wanted:
        wanted = chosen.address if chosen else DEFAULT_ADDRESS
    stored = chosen if from_context else None
    key = (
        api_key
        or (explicit.api_key if explicit and stored else None)
        or environ.get(API_KEY_VARIABLE)
        or (stored.api_key if stored else None)
    )
    authorities = ca_file or environ.get(CA_FILE_VARIABLE) or (stored.ca_file if stored else None)
    target, secured = parse_address(wanted)
    if tls is not None:
        secured = tls
    return Endpoint(
        target=target,
        api_key=_checked_key(key),
        tls=secured or authorities is not None,
        ca_pem=_read_pem(Path(authorities)) if authorities else None,
    )


def parse_address(address: str) -> tuple[str, bool]:
    """(host:port, whether TLS is asked for) of host, host:port, grpc://…, grpcs://…, http://… or https://…."""
    scheme, separator, rest = address.strip().rpartition("://")
    if separator and scheme.lower() not in _SCHEMES:
        raise errors.InvalidRequest.of("address", f"{address!r}: unknown scheme; use grpc:// or grpcs:// (TLS)")
    host = rest.rstrip("/")
    if not host or any(letter in host for letter in "/ @?#"):
        raise errors.InvalidRequest.of("address", f"{address!r} is no address; write HOST:PORT")
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return f"{host}:{DEFAULT_PORT}", _SCHEMES.get(scheme.lower(), False)
    if not name or not port.isdecimal() or not 0 < int(port) < 65536:
        raise errors.InvalidRequest.of("address", f"{address!r}: {port!r} is no port; write HOST:PORT")
    return host, _SCHEMES.get(scheme.lower(), False)


def _context(name: str | None, environ: Mapping[str, str]) -> Context | None:
    contexts = ContextFile(default_path(environ))
    wanted = name or environ.get(CONTEXT_VARIABLE)
    return contexts.get(wanted) if wanted else contexts.current()


def _checked_key(key: str | None) -> str | None:
    # gRPC metadata holds printable ASCII only; anything else would fail deep inside it.
    if key is not None and not (key.isascii() and key.isprintable()):
        raise errors.InvalidRequest.of("api_key", "the API key holds characters that no key has; copy it again")
    return key.strip() if key else None


def _read_pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise errors.InvalidRequest.of("ca_file", f"{path} cannot be read: {exc.strerror}") from exc
