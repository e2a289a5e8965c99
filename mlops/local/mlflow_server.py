"""How the embedded MLflow server is started: one process tree, everything it keeps in one directory."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx

from mlops.errors import TrackingUnavailable

ADMIN_USER = "admin"
# Without it each call costs 0.5 to 1 second; a revoked password lives on for as long.
AUTH_CACHE = timedelta(seconds=60)
POLL = timedelta(milliseconds=100)


@dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """A process to start, in a process group of its own: the server runs as a child of the command.

    env: the whole environment. It holds the administrator's password, which the argument list must not.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    url: str
    admin_user: str
    admin_password: str = field(repr=False)


def mlflow_command(directory: Path, *, port: int, admin_password: str, secret_key: str) -> ServerCommand:
    """The command for a server that keeps databases and artifacts in `directory`, which is made where it is missing.

    admin_password (12 characters or more) is taken at the first start in a directory; a later one does not
    change it. The server listens on loopback alone.
    """
    directory = directory.resolve()
    (directory / "artifacts").mkdir(parents=True, exist_ok=True)
    config = directory / "basic_auth.ini"
    config.write_text(_config(directory))
    config.chmod(0o600)
    argv = (
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", "127.0.0.1", "--port", str(port)),
        # More than one worker loses TCP_NODELAY: a call of 17 ms takes 56.
        *("--workers", "1"),
        "--enable-workspaces",
        *("--app-name", "basic-auth"),
        *("--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}"),
        "--serve-artifacts",
        *("--artifacts-destination", (directory / "artifacts").as_uri()),
        *("--uvicorn-opts", "--no-access-log --log-level warning"),
    )
    # Where it is set, Python compiles every module at every start: 26 to 55 seconds instead of 10.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env = {
        # Another server's settings must not leak into this one, nor our own secrets.
        **{name: value for name, value in inherited.items() if not name.startswith(("MLFLOW_", "MLOPS_"))},
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN_USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": admin_password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": hmac.new(secret_key.encode(), b"mlflow-session", hashlib.sha256).hexdigest(),
        # Its job runner is for language models, and takes 1.4 GB in eight processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "PYTHONWARNINGS": "ignore",
    }
    return ServerCommand(
        argv=argv,
        env=env,
        url=f"http://127.0.0.1:{port}",
        admin_user=ADMIN_USER,
        admin_password=admin_password,
    )


def _config(directory: Path) -> str:
    # A percent sign would begin an interpolation.
    database = f"sqlite:///{directory / 'auth.db'}".replace("%", "%%")
    return f"""\
[mlflow]
default_permission = NO_PERMISSIONS
grant_default_workspace_access = false
database_uri = {database}
admin_username = {ADMIN_USER}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = {int(AUTH_CACHE.total_seconds())}
# It remembers names that are not there, and then refuses them to the one who makes them.
workspace_cache_ttl_seconds = 0
"""


async def wait_ready(url: str, deadline: timedelta) -> None:
    """Returns once the server answers. Raises TrackingUnavailable when it has not by the deadline, from now."""
    ends = time.monotonic() + deadline.total_seconds()
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=5.0) as client:
        while True:
            try:
                response = await client.get("/health")
            except httpx.TransportError:
                pass  # it does not listen yet
            else:
                if response.is_success:
                    return
            if time.monotonic() >= ends:
                raise TrackingUnavailable(f"MLflow at {url} was not ready within {deadline.total_seconds():.0f} s")
            await asyncio.sleep(POLL.total_seconds())
