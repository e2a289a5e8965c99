"""Renders scikit-learn's own parameter constraints as data.

A rule is one alternative of what a parameter may be, as a JSON object whose `is` names its kind. Rules that
would let a caller's code or a path of the host in (callables, joblib caches, file names) are never rendered.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping, MutableMapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import Kernel
from sklearn.utils import _param_validation as constraints

from mlops.jobs.literals import Reference, to_json

Rule = dict[str, Any]

UFUNCS = tuple(
    f"numpy.{name}"
    for name in (
        "abs", "arcsinh", "cbrt", "ceil", "cos", "exp", "exp2", "expm1", "floor", "log", "log10", "log1p", "log2",
        "negative", "reciprocal", "rint", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
    )
)  # fmt: skip
REDUCERS = ("numpy.max", "numpy.mean", "numpy.median", "numpy.min", "numpy.sum")
SCORE_FUNCTIONS = tuple(
    f"sklearn.feature_selection.{name}"
    for name in ("chi2", "f_classif", "f_regression", "mutual_info_classif", "mutual_info_regression", "r_regression")
)
FUNCTIONS = (*UFUNCS, *REDUCERS, *SCORE_FUNCTIONS)
DTYPES = (
    "builtins.bool", "builtins.float", "builtins.int", "builtins.str",
    "numpy.bool_", "numpy.float32", "numpy.float64", "numpy.int8", "numpy.int16", "numpy.int32",
    "numpy.int64", "numpy.object_", "numpy.uint8",
)  # fmt: skip

_NONE: Rule = {"is": "none"}
_BOOLEAN: Rule = {"is": "boolean"}
_CALLABLES: dict[str, tuple[str, ...]] = {
    "func": UFUNCS,
    "inverse_func": UFUNCS,
    "pooling_func": REDUCERS,
    "score_func": SCORE_FUNCTIONS,
}
_TYPES: dict[object, str] = {
    Integral: "integer",
    Real: "real",
    float: "float",
    str: "string",
    bool: "boolean",
    dict: "mapping",
    Mapping: "mapping",
    MutableMapping: "mapping",
    list: "list",
    tuple: "tuple",
    np.ndarray: "array",
    Kernel: "kernel",
}
_WORDS: dict[str, str] = {
    "array-like": "sequence",
    "boolean": "boolean",
    "random_state": "random_state",
    "verbose": "verbose",
    "cv_object": "cv",
    "nan": "nan",
}
# Parameters whose rule is ours: scikit-learn's own says too little, or allows too much.
_OVERRIDES: dict[str, list[Rule]] = {
    # A path would let joblib write to the host and read pickles back from it.
    "memory": [_NONE],
    # "filename" and "file" read the host's files.
    "input": [{"is": "options", "options": ["content"]}],
    # joblib evaluates the text.
    "pre_dispatch": [
        {"is": "options", "options": ["2*n_jobs", "3*n_jobs", "all", "n_jobs"]},
        {"is": "interval", "of": "integer", "left": 1, "right": None, "closed": "left"},
    ],
    "importance_getter": [{"is": "attribute"}],
    "dtype": [{"is": "dtype"}, _NONE],
    "dtype_include": [{"is": "dtypes"}, _NONE],
    "dtype_exclude": [{"is": "dtypes"}, _NONE],
    "fill_value": [_NONE, {"is": "string"}, {"is": "real"}, {"is": "nan"}],
    # Nothing here brings a fitted estimator along.
    "prefit": [{"is": "values", "values": [{"boolean": False}]}],
    # A text is a format string.
    "verbose_feature_names_out": [_BOOLEAN],
    "param_grid": [{"is": "grid"}],
    "param_distributions": [{"is": "grid"}],
    "steps": [{"is": "steps", "words": ["passthrough"], "inner": ["transform"]}],
    "transformer_list": [{"is": "steps", "words": ["drop", "passthrough"], "inner": ["transform"], "last": True}],
    "transformers": [
        {"is": "steps", "words": ["drop", "passthrough"], "inner": ["transform"], "last": True, "columns": True}
    ],
    "estimators": [{"is": "steps", "words": ["drop"], "inner": []}],
}
_BANNED_OPTIONS = frozenset({"prefit", "pyfunc"})


def rules_of(name: str, constraint: object) -> list[Rule]:
    """The rules for one parameter, from its entry in `_parameter_constraints`."""
    if name in _OVERRIDES:
        return _OVERRIDES[name]
    found = constraint if isinstance(constraint, list) else []
    if name == "scoring":
        return _scoring(found)
    rules: list[Rule] = []
    for one in found:
        rule = _rule(name, one)
        if rule is not None and rule not in rules:
            rules.append(rule)
    return rules


def default_of(parameter: inspect.Parameter) -> dict[str, Any] | None:
    """A parameter's default as a value in JSON form, None where it is required. Raises TypeError for other objects."""
    if parameter.default is inspect.Parameter.empty:
        return None
    return to_json(referenced(parameter.default))


def referenced(value: object) -> object:
    """`value`, with allow-listed functions and types as references to them."""
    for path in (*FUNCTIONS, *DTYPES):
        module, _, name = path.rpartition(".")
        if value is getattr(importlib.import_module(module), name):
            return Reference(path)
    return value


def _scoring(found: list[object]) -> list[Rule]:
    rule: Rule = {"is": "scorer"}
    if list in found:
        rule["many"] = True
    extra = {"loss"} if str in found else set()
    if extra:
        rule["words"] = sorted(extra)
    return [rule, _NONE]


def _rule(name: str, one: object) -> Rule | None:
    if isinstance(one, constraints.Hidden):
        return None
    if one is None:
        return _NONE
    if one is callable:
        return {"is": "function", "paths": list(_CALLABLES[name])} if name in _CALLABLES else None
    if isinstance(one, constraints.StrOptions):
        return _options(one)
    if isinstance(one, constraints.Options):
        return {"is": "values", "values": _values(one)}
    if isinstance(one, constraints.Interval):
        return _interval(one)
    if isinstance(one, constraints.MissingValues):
        return {"is": "missing", "numeric_only": True} if one.numeric_only else {"is": "missing"}
    if isinstance(one, constraints.HasMethods):
        return _object(one.methods)
    if isinstance(one, float) and math.isnan(one):
        return {"is": "nan"}
    kind = _WORDS.get(one) if isinstance(one, str) else _TYPES.get(one)
    return None if kind is None else {"is": kind}


def _options(one: Any) -> Rule | None:
    options = sorted(str(option) for option in one.options if option not in _BANNED_OPTIONS)
    return {"is": "options", "options": options} if options else None


def _values(one: Any) -> list[dict[str, Any]]:
    values = [to_json(referenced(option)) for option in one.options]
    return sorted(values, key=repr)


def _interval(one: Any) -> Rule:
    of = {Integral: "integer", Real: "real", constraints.RealNotInt: "float"}[one.type]
    return {"is": "interval", "of": of, "left": _bound(one.left), "right": _bound(one.right), "closed": one.closed}


def _bound(bound: Any) -> int | float | None:
    if bound is None:
        return None
    return int(bound) if isinstance(bound, Integral) else float(bound)


def _object(methods: list[str]) -> Rule | None:
    if methods == ["cache"]:
        return None
    if methods == ["__iter__"]:
        return {"is": "list"}
    return {"is": "estimator", "methods": sorted(methods)}
