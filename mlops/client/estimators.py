"""Turns an unfitted scikit-learn object into the spec that a job carries.

Nothing is imported here: whoever hands over an estimator has loaded scikit-learn already.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from mlops.errors import InvalidRequest
from mlops.jobs.allowlist import Allowlist, Entry, allowlist, nearest_path
from mlops.jobs.catalog import check_estimator
from mlops.jobs.estimator import (
    MAX_ESTIMATOR_BYTES,
    MAX_ESTIMATOR_DEPTH,
    EstimatorSpec,
    ParamEntry,
    ParamList,
    ParamMapping,
    ParamValue,
)
from mlops.jobs.literals import is_scalar, to_value

FIELD = "estimator"
# The shortest value takes about this many bytes as JSON: longer lists cannot fit, and are not even looked at.
_LEAST_VALUE_BYTES = 12
_LIST_VALUES = "list the values to try instead: numpy.logspace(-3, 3, 50), say"
# Types that a column selector may name, and the names that mean the same.
_ABSTRACT_TYPES = {
    "builtins.object": "object",
    "numpy.floating": "floating",
    "numpy.integer": "integer",
    "numpy.number": "number",
}
_MAX_ITEMS = MAX_ESTIMATOR_BYTES // _LEAST_VALUE_BYTES


def estimator_spec(estimator: object) -> EstimatorSpec:
    """The spec of an unfitted estimator: its class, and the parameters that differ from scikit-learn's defaults.

    Raises InvalidRequest, naming the class or the parameter, for what a spec cannot carry: classes off the
    allow-list (the caller's own among them), fitted estimators, functions other than scikit-learn's,
    RandomState instances, data too large, and values that scikit-learn itself would refuse.
    """
    if isinstance(estimator, type):
        _refuse(FIELD, f"{estimator.__name__} is a class; hand over an instance: {estimator.__name__}()")
    spec = _Reader().spec(estimator, FIELD, depth=1)
    violations = check_estimator(spec, field=FIELD)
    if violations:
        path, problem = next(iter(violations.items()))
        raise InvalidRequest(f"{path} {problem}", violations=violations)
    return spec


def _refuse(path: str, problem: str) -> NoReturn:
    raise InvalidRequest.of(path, problem)


class _Reader:
    """Reads one estimator."""

    def __init__(self) -> None:
        self.allowed: Allowlist = allowlist()
        self.items_left = _MAX_ITEMS

    def spec(self, obj: Any, path: str, *, depth: int) -> EstimatorSpec:
        if depth > MAX_ESTIMATOR_DEPTH:
            _refuse(path, f"estimators are nested deeper than {MAX_ESTIMATOR_DEPTH} levels")
        if _is_frozen_distribution(obj):
            _refuse(path, f"{obj.dist.name} is a distribution, which cannot be stored safely; {_LIST_VALUES}")
        entry = self.entry(obj, path)
        name = type(obj).__name__
        _refuse_state(obj, name, path)
        params: dict[str, ParamValue] = {}
        signature = inspect.signature(type(obj))
        for parameter, value in _params_of(obj, signature).items():
            where = f"{path}.params[{parameter}]"
            # A parameter of another version of scikit-learn, left alone by the caller.
            if parameter not in entry.params and value is signature.parameters[parameter].default:
                continue
            if entry.kind == "selector":
                value = _selected_types(value)
            encoded = self.value(value, where, f"{parameter} of {name}", depth=depth, level=1)
            if not _is_default(entry, parameter, encoded):
                params[parameter] = encoded
        return EstimatorSpec(path=entry.path, params=params)

    def entry(self, obj: Any, path: str) -> Entry:
        kind = type(obj)
        for candidate, entry in self.candidates(kind.__name__):
            if _resolve(candidate) is kind:
                return entry
        full = f"{kind.__module__}.{kind.__qualname__}"
        for excluded, reason in self.allowed.excluded.items():
            if _resolve(excluded) is kind:
                _refuse(path, f"{excluded} is not offered: {reason}")
        parent = next((one for one in kind.__mro__[1:] if any(self.candidates(one.__name__))), None)
        if parent is not None and parent.__module__.startswith("sklearn."):
            _refuse(path, f"{full} is a class of your own; jobs run scikit-learn's classes only: {parent.__name__}")
        hint = nearest_path(full, self.allowed.entries)
        _refuse(path, f"{full} is not on the list of allowed classes: jobs run scikit-learn's own only{hint}")

    def candidates(self, name: str) -> Iterable[tuple[str, Entry]]:
        return ((path, self.allowed.entries[path]) for path in self.allowed.entries if path.endswith(f".{name}"))

    def value(self, value: Any, path: str, what: str, *, depth: int, level: int) -> ParamValue:
        self.items_left -= 1
        if self.items_left < 0:
            _refuse(
                path, f"the estimator holds more data than a spec can carry ({MAX_ESTIMATOR_BYTES:,} bytes as JSON)"
            )
        if level > MAX_ESTIMATOR_DEPTH:
            _refuse(path, f"{what} is nested deeper than {MAX_ESTIMATOR_DEPTH} levels, or holds itself")
        value = _plain(value)
        if value is None or isinstance(value, bool | int | float | str):
            try:
                return to_value(value)
            except OverflowError as error:
                raise InvalidRequest.of(path, f"{what}: {error}") from error
        if isinstance(value, range):
            value = list(value[: self.items_left + 1])
        if isinstance(value, list | tuple):
            items = tuple(
                self.value(item, f"{path}[{index}]", what, depth=depth, level=level + 1)
                for index, item in enumerate(value)
            )
            held = ParamList(items=items)
            return ParamValue(tuple=held) if isinstance(value, tuple) else ParamValue(list=held)
        if isinstance(value, dict):
            return ParamValue(mapping=ParamMapping(entries=self.entries(value, path, what, depth=depth, level=level)))
        if (reference := self.reference(value)) is not None:
            return ParamValue(function=reference)
        if _is_object(value):
            return ParamValue(object=self.spec(value, path, depth=depth + 1))
        _refuse(path, f"{what} is {_named(value)}")

    def entries(self, value: dict[Any, Any], path: str, what: str, *, depth: int, level: int) -> tuple[ParamEntry, ...]:
        entries = []
        for key, item in value.items():
            encoded = self.value(key, path, f"a key in {what}", depth=depth, level=level + 1)
            if not is_scalar(encoded):
                _refuse(path, f"{what} has the key {key!r:.80}; keys must be texts, numbers, booleans or None")
            held = self.value(item, f"{path}[{key}]", what, depth=depth, level=level + 1)
            entries.append(ParamEntry(key=encoded, value=held))
        return tuple(entries)

    def reference(self, value: object) -> str | None:
        """The import path of an allow-listed function or dtype."""
        if not callable(value) or _is_object(value):
            return None
        known = (*self.allowed.functions, *self.allowed.dtypes)
        return next((path for path in known if _resolve(path) is value), None)


def _selected_types(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_selected_types(item) for item in value]
    return next((name for path, name in _ABSTRACT_TYPES.items() if _resolve(path) is value), value)


def _is_default(entry: Entry, name: str, value: ParamValue) -> bool:
    parameter = entry.params.get(name)
    return parameter is not None and parameter.is_default(value)


def _resolve(path: str) -> object:
    """What stands at an import path, where its module is loaded already; else None."""
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _params_of(obj: Any, signature: inspect.Signature) -> dict[str, Any]:
    names = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if hasattr(obj, "get_params"):
        params = obj.get_params(deep=False)
        return {name: params[name] for name in names if name in params}
    # Splitters and column selectors keep their arguments as attributes; repeated splitters some in `cvargs`.
    held = getattr(obj, "cvargs", {})
    return {name: getattr(obj, name, held.get(name)) for name in names}


def _refuse_state(obj: Any, name: str, path: str) -> None:
    """A spec carries parameters only: whatever else was set on the object would silently be lost."""
    state = getattr(obj, "__dict__", {})
    if any(attribute.endswith("_") and not attribute.startswith("_") for attribute in state):
        _refuse(path, f"this {name} is fitted; hand over an unfitted one: sklearn.base.clone({name.lower()})")
    lost = {"_sklearn_output_config": "set_output", "_metadata_request": "set_fit_request and the like"}
    for attribute, method in lost.items():
        if state.get(attribute):
            _refuse(path, f"this {name} was changed by {method}, which a job cannot carry")


def _plain(value: Any) -> Any:
    """numpy's scalars, arrays and pandas' columns as Python's own values."""
    if type(value).__module__ in ("numpy", "pandas") or hasattr(value, "__array__"):
        if hasattr(value, "toarray"):
            return value
        if hasattr(value, "tolist") and not isinstance(value, type):
            return value.tolist()
    return value


def _is_object(value: object) -> bool:
    if isinstance(value, type) or inspect.isroutine(value):
        return False
    module = type(value).__module__
    has_params = hasattr(value, "get_params") or hasattr(value, "get_n_splits")
    return has_params or _is_frozen_distribution(value) or module.startswith("sklearn.compose")


def _is_frozen_distribution(value: object) -> bool:
    return type(value).__name__ in ("rv_continuous_frozen", "rv_discrete_frozen") and hasattr(value, "dist")


def _named(value: object) -> str:
    """What a value is, and what to do instead."""
    kind = type(value)
    if getattr(value, "__name__", "") == "<lambda>":
        return "a lambda; jobs run no code of their own: use one of scikit-learn's or numpy's functions by name"
    if isinstance(value, type):
        return f"the class {value.__name__}, which is not on the list of allowed types"
    if kind.__name__ in ("RandomState", "Generator"):
        return f"a {kind.__name__} instance; give an integer seed instead"
    if inspect.isroutine(value) or callable(value):
        name = f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', kind.__name__)}".lstrip(".")
        return f"the function {name}, which is not on the list of allowed functions; jobs run no code of their own"
    if isinstance(value, set | frozenset):
        return "a set; give a sorted list instead"
    if isinstance(value, slice):
        return "a slice; name the columns instead"
    return f"a {kind.__module__}.{kind.__qualname__}, which a spec cannot carry; use numbers, texts, lists or dicts"
