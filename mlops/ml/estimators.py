"""Builds a scikit-learn object from its spec. Only what the allow-list names is ever imported."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from mlops.errors import FitFailed, InvalidRequest
from mlops.jobs.allowlist import Entry, Parameter, allowlist
from mlops.jobs.catalog import check_estimator
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.literals import is_scalar, items_of, scalar


def build(spec: EstimatorSpec, *, seed: int) -> Any:
    """The unfitted estimator.

    Every `random_state` that is unset, or None, becomes `seed`, nested ones too, so that the same spec and seed
    give the same model. Every `n_jobs` is left to joblib's context (`joblib.parallel_config`), since the job's
    resources decide on it.

    Raises InvalidRequest for a spec that the allow-list refuses, and FitFailed where a class refuses its
    parameters when it is made.
    """
    violations = check_estimator(spec, field="spec.estimator")
    if violations:
        path, problem = next(iter(violations.items()))
        raise InvalidRequest(f"{path} {problem}", violations=violations)
    return _object(spec, seed)


def _object(spec: EstimatorSpec, seed: int) -> Any:
    entry = allowlist().entries[spec.path]
    arguments = {
        name: _argument(entry.params[name], value, seed) for name, value in spec.params.items() if name != "n_jobs"
    }
    if _is_seeded(entry, arguments):
        arguments["random_state"] = seed
    parameter = entry.params.get("n_jobs")
    if parameter is not None and parameter.default != {"none": True}:
        arguments["n_jobs"] = None
    try:
        return _named(spec.path, entry.enabled_by)(**arguments)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise FitFailed(
            f"{spec.path} refused its parameters: {error}",
            error_class=type(error).__name__,
            hint="look the parameters up in scikit-learn's documentation of the class",
        ) from error


def _is_seeded(entry: Entry, arguments: dict[str, Any]) -> bool:
    if not entry.random_state or arguments.get("random_state") is not None:
        return False
    return not entry.seeded_if or bool(arguments.get(entry.seeded_if))


def _argument(parameter: Parameter, value: ParamValue, seed: int) -> Any:
    kinds = {rule["is"] for rule in parameter.rules}
    argument = _value(value, seed)
    # scikit-learn insists on an array in some places, where everywhere else a list will do.
    needs_array = "array" in kinds and not kinds & {"sequence", "list", "tuple"}
    return np.asarray(argument) if needs_array and items_of(value) is not None else argument


def _value(value: ParamValue, seed: int) -> Any:
    if is_scalar(value):
        return scalar(value)
    if value.object is not None:
        return _object(value.object, seed)
    if value.function is not None:
        return _named(value.function)
    if value.mapping is not None:
        return {scalar(entry.key): _value(entry.value, seed) for entry in value.mapping.entries}
    items = [_value(item, seed) for item in items_of(value) or ()]
    return tuple(items) if value.tuple is not None else items


def _named(path: str, enabled_by: str = "") -> Any:
    """The class or function at an import path of the allow-list."""
    allowed = allowlist()
    if path not in allowed.entries and path not in allowed.functions and path not in allowed.dtypes:
        raise InvalidRequest(allowed.unknown(path))
    if enabled_by:
        importlib.import_module(enabled_by)
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
