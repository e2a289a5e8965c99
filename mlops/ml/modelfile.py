"""A model as a file: skops, loaded against the platform's allow-list and never against the file's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import skops.io
from skops.io.exceptions import UnsupportedTypeException

from mlops.errors import UnsafeModel
from mlops.ml.trusted import TRUSTED

_MAX_NAMED = 10


def save(model: Any, path: Path) -> tuple[str, ...]:
    """Writes a fitted model; gives the types in it that skops does not trust by itself, sorted.

    Raises UnsafeModel where the file could not be loaded again.
    """
    _clear_callbacks(model)
    try:
        skops.io.dump(model, path)
    except UnsupportedTypeException as error:
        raise UnsafeModel(
            f"this estimator cannot be stored safely: {error}", hint="Choose another estimator."
        ) from error
    return _checked_types(path)


def load(path: Path) -> Any:
    """The model in a file.

    Raises UnsafeModel, naming the types, where it holds any that is not on the allow-list, and where it is no
    model file or a damaged one; nothing of it was executed then.
    """
    types = _checked_types(path)
    try:
        return skops.io.load(path, trusted=list(types))
    except Exception as error:
        raise _unreadable(error) from error


def _checked_types(path: Path) -> tuple[str, ...]:
    try:
        types = sorted(skops.io.get_untrusted_types(file=path))
    except FileNotFoundError:
        raise
    except Exception as error:
        # Whatever a damaged or hostile file makes skops raise, the answer is the same.
        raise _unreadable(error) from error
    foreign = [name for name in types if name not in TRUSTED]
    if foreign:
        more = f" and {len(foreign) - _MAX_NAMED} more" if len(foreign) > _MAX_NAMED else ""
        raise UnsafeModel(
            f"the model holds types that are not on the allow-list: {', '.join(foreign[:_MAX_NAMED])}{more}",
            hint="It was not made by this platform, or it was changed. Train it again here.",
            types=foreign[:_MAX_NAMED],
        )
    return tuple(types)


def _unreadable(error: Exception) -> UnsafeModel:
    return UnsafeModel(
        f"the file is no model, or a damaged one: {type(error).__name__}: {str(error)[:300]}",
        hint="Upload or train the model again.",
    )


def _clear_callbacks(model: Any) -> None:
    """Callbacks belong to one fit; they hold this process's objects, which are no part of a model."""
    # Pipelines hold (name, estimator) pairs; whatever else nests estimators makes copies without callbacks.
    for inner in (model, *(step for _, step in getattr(model, "steps", ()))):
        if getattr(inner, "_skl_callbacks", None):
            inner.set_callbacks()
