"""mlops: a multi-tenant scheduler for scikit-learn training and inference, on Temporal.

This module runs on every import of the package, inside workflows too, so it stays light: the public
names are resolved when they are first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mlops import errors as errors
    from mlops.client import AsyncClient as AsyncClient
    from mlops.client import Client as Client
    from mlops.errors import MlopsError as MlopsError

__all__ = ["AsyncClient", "Client", "MlopsError", "__version__", "errors"]

_HOMES = {"Client": "mlops.client", "AsyncClient": "mlops.client", "MlopsError": "mlops.errors"}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("mlops.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
