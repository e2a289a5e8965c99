"""Files of runs and models, through MLflow's artifact proxy: the workers hold no key of the object store."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote, urlsplit

from mlops.errors import FailedPrecondition, InvalidRequest

SCHEME = "mlflow-artifacts"


def proxied(artifact_uri: str, path: str) -> str:
    """The URL path, below the proxy, of a file of a run or a model.

    Raises FailedPrecondition where the server does not proxy artifacts, and InvalidRequest for a path that
    is empty, absolute or leads out.
    """
    parts = urlsplit(artifact_uri)
    if parts.scheme != SCHEME:
        raise FailedPrecondition(
            f"MLflow keeps artifacts at {parts.scheme or 'file'}: itself; start its server with --serve-artifacts"
        )
    file = PurePosixPath(path)
    if not path or file.is_absolute() or ".." in file.parts or "\\" in path or not file.name:
        raise InvalidRequest.of("path_in_run", f"{path!r} is no relative path")
    return quote(str(PurePosixPath(parts.path.lstrip("/")) / file))
