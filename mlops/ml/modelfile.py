"""A model as a file: skops, loaded against the platform's allow-list and never against the file's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import skops.io
from skops.io.exceptions import UnsupportedTypeException

from mlops.errors import UnsafeModel
from mlops.ml.parts import parts_of
from mlops.ml.trusted import TRUSTED

_MAX_NAMED = 10


def save(model: Any, path: Path) -> tuple[str, ...]:
    """Writes a fitted model; gives the types in it that skops does not trust by itself, sorted.

    Raises UnsafeModel where the file could not be loaded again.
    """
    _strip(model)
    try:
        skops.io.dump(model, path)
    except (UnsupportedTypeException, RecursionError) as error:
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


def _strip(model: Any) -> None:
    """Removes what a fit left behind that is no part of the model, from every estimator inside it.

    Callbacks hold objects of this process. HistGradientBoosting keeps a scorer that refers to itself, and a bound
    method in its method's place; predictions use neither, and skops cannot store a cycle. The distributions that a
    randomised search drew from are unsafe to load (see `trusted`); what they were stays as text.
    """
    for part in parts_of(model):
        if getattr(part, "_skl_callbacks", None):
            part.set_callbacks()
        if type(part).__name__.startswith("HistGradientBoosting"):
            vars(part).pop("_scorer", None)
            vars(part).pop("_raw_predict", None)
        if hasattr(part, "param_distributions"):
            part.param_distributions = _described(part.param_distributions)


def _described(distributions: Any) -> Any:
    """The same, with every distribution replaced by its name and parameters."""
    if isinstance(distributions, dict):
        return {name: _described(inner) for name, inner in distributions.items()}
    if isinstance(distributions, list) and any(isinstance(inner, dict) for inner in distributions):
        return [_described(inner) for inner in distributions]
    if not hasattr(distributions, "rvs"):
        return distributions
    given = [*map(repr, distributions.args), *(f"{name}={value!r}" for name, value in distributions.kwds.items())]
    return f"{distributions.dist.name}({', '.join(given)})"
