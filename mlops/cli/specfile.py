"""A training as YAML: the spec file of `mlops train --spec`, and the values of `--param`.

In an estimator's parameters, YAML's own types are kept (1 and 1.0 differ), and three things are added:

    {path: sklearn.preprocessing.StandardScaler, params: {…}}    a nested estimator, splitter or kernel
    !tuple [100, 50]                                             a tuple
    !function sklearn.feature_selection.f_classif                an allow-listed function

What `mlops job get --output yaml` prints of an estimator is understood as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mlops import errors
from mlops.client.quantities import parse_bytes, parse_duration
from mlops.client.training import checked_spec
from mlops.jobs.estimator import MAX_ESTIMATOR_DEPTH, EstimatorSpec, ParamEntry, ParamList, ParamMapping, ParamValue
from mlops.jobs.training import TrainingSpec

# How deep values may nest; far beyond what the platform accepts, far below Python's limit.
MAX_VALUE_DEPTH = 10 * MAX_ESTIMATOR_DEPTH


class _Tuple(tuple[Any, ...]):
    """A `!tuple`."""

    __slots__ = ()


class _Function(str):
    """A `!function`."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `no` is a text, 1e-3 is a number, a date is a text."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
    ("null", r"^(?:~|null|Null|NULL|None|)$", "~nN\0"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(_pattern),
        [*_first.replace("\0", ""), *([""] if "\0" in _first else [])],
    )


def _construct_tuple(loader: _Loader, node: yaml.Node) -> _Tuple:
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.MarkedYAMLError(problem="!tuple needs a list behind it", problem_mark=node.start_mark)
    return _Tuple(loader.construct_sequence(node, deep=True))


def _construct_function(loader: _Loader, node: yaml.Node) -> _Function:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.MarkedYAMLError(problem="!function needs an import path behind it", problem_mark=node.start_mark)
    return _Function(loader.construct_scalar(node))


_Loader.add_constructor("!tuple", _construct_tuple)
_Loader.add_constructor("!function", _construct_function)


def load_yaml(text: str, *, field: str) -> Any:
    """The value of a YAML text. Raises InvalidRequest, naming `field`."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with other scalars
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise errors.InvalidRequest.of(field, f"{text[:80]!r} is no YAML: {exc}") from exc


def estimator_from(path: str, params: list[str] | None) -> EstimatorSpec:
    """The estimator of `--estimator` and `--param name=value`; a class may be named without its module."""
    values: dict[str, ParamValue] = {}
    for text in params or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise errors.InvalidRequest.of("param", f"{text!r} is not of the form name=value")
        values[name] = param_value(load_yaml(value, field=f"param {name}"), field=f"param {name}")
    return EstimatorSpec(path=full_path(path), params=values)


def full_path(name: str) -> str:
    """sklearn.ensemble.RandomForestClassifier for RandomForestClassifier. Raises InvalidRequest for an unknown one."""
    from mlops.jobs.allowlist import allowlist, nearest

    if "." in name:
        return name
    known = {path.rpartition(".")[2]: path for path in allowlist().entries}
    if name not in known:
        raise errors.InvalidRequest.of("estimator", f"{name!r} is on no list of ours{nearest(name, known)}")
    return known[name]


def read_spec(path: Path) -> TrainingSpec:
    """The training that a YAML (or JSON) file asks for. Raises InvalidRequest, naming each field that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.InvalidRequest.of("spec", f"the file {str(path)!r} cannot be read: {exc}") from exc
    data = load_yaml(text, field=f"spec {path}")
    if not isinstance(data, dict):
        raise errors.InvalidRequest.of("spec", f"the file {str(path)!r} holds no mapping of a training's fields")
    plain = {str(key): value for key, value in data.items()}
    if isinstance(plain.get("estimator"), str):
        plain["estimator"] = EstimatorSpec(path=full_path(plain["estimator"]))
    elif isinstance(plain.get("estimator"), dict):
        plain["estimator"] = _spec(plain["estimator"], field="estimator", depth=0)
    resources = plain.get("resources")
    if isinstance(resources, dict) and isinstance(resources.get("memory_bytes"), str):
        memory = parse_bytes(resources["memory_bytes"], field="resources.memory_bytes")
        plain["resources"] = resources | {"memory_bytes": memory}
    if isinstance(plain.get("time_limit"), str) and not plain["time_limit"].startswith("P"):
        plain["time_limit"] = parse_duration(plain["time_limit"], field="time_limit")
    return checked_spec(plain, as_arguments=False)


def param_value(value: Any, *, field: str, depth: int = 0) -> ParamValue:
    """A YAML value as a parameter. Raises InvalidRequest for what no parameter can be."""
    if depth > MAX_VALUE_DEPTH:
        raise errors.InvalidRequest.of(field[:80], f"is nested more than {MAX_VALUE_DEPTH} deep")
    if value is None:
        return ParamValue(none=True)
    if isinstance(value, bool):
        return ParamValue(boolean=value)
    if isinstance(value, int):
        return ParamValue(integer=value)
    if isinstance(value, float):
        return ParamValue(number=value)
    if isinstance(value, _Function):
        return ParamValue(function=str(value))
    if isinstance(value, str):
        return ParamValue(string=value)
    if isinstance(value, list | tuple):
        items = (param_value(item, field=f"{field}[{index}]", depth=depth + 1) for index, item in enumerate(value))
        items_list = ParamList(items=tuple(items))
        return ParamValue(tuple=items_list) if isinstance(value, tuple) else ParamValue(list=items_list)
    if isinstance(value, dict):
        return _mapping(value, field=field, depth=depth)
    raise errors.InvalidRequest.of(field, f"{value!r} is a {type(value).__name__}, which no parameter can be")


def _mapping(value: Mapping[Any, Any], *, field: str, depth: int) -> ParamValue:
    if isinstance(value.get("path"), str) and set(value) <= {"path", "params"}:
        return ParamValue(object=_spec(value, field=field, depth=depth))
    if len(value) == 1 and next(iter(value)) in ParamValue.model_fields:
        try:
            return ParamValue.model_validate(value)  # as it is printed: {integer: 5}
        except ValidationError as exc:
            raise errors.InvalidRequest.of(field, exc.errors(include_url=False)[0]["msg"]) from exc
    entries = (
        ParamEntry(
            key=param_value(key, field=field, depth=depth + 1),
            value=param_value(item, field=f"{field}[{key}]", depth=depth + 1),
        )
        for key, item in value.items()
    )
    return ParamValue(mapping=ParamMapping(entries=tuple(entries)))


def _spec(value: Mapping[Any, Any], *, field: str, depth: int) -> EstimatorSpec:
    path, params = value.get("path"), value.get("params") or {}
    if not isinstance(path, str) or not isinstance(params, dict) or not set(value) <= {"path", "params"}:
        raise errors.InvalidRequest.of(field, "must hold `path` (the class to import), and may hold `params`")
    given = {
        str(name): param_value(item, field=f"{field}.params[{name}]", depth=depth + 1) for name, item in params.items()
    }
    return EstimatorSpec(path=full_path(path), params=given)
