"""An estimator as data: the import path of an allow-listed class, and its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mlops.jobs.value import Value

# Bounds that keep a spec far below Temporal's payload limit.
MAX_ESTIMATOR_DEPTH = 12
MAX_ESTIMATOR_BYTES = 256 * 1024


class ParamValue(Value):
    """One parameter's value: exactly one field is set. JSON could not tell 1 from 1.0, or a list from a tuple."""

    none: Literal[True] | None = None
    boolean: bool | None = None
    integer: int | None = None
    number: float | None = None
    string: str | None = None
    list: ParamList | None = None
    tuple: ParamList | None = None
    mapping: ParamMapping | None = None
    # An object built from an allow-listed class: a nested estimator, a splitter, a kernel.
    object: EstimatorSpec | None = None
    # An allow-listed function by its import path: sklearn.feature_selection.f_classif.
    function: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        found = list(self._set())
        if len(found) != 1:
            raise ValueError(f"exactly one kind of value must be set, got {', '.join(found) or 'none'}")
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    def _set(self) -> Iterator[str]:
        return (name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def kind(self) -> str:
        """The name of the one field that is set."""
        return next(self._set())


class ParamList(Value):
    """The items of a list or a tuple."""

    items: tuple[ParamValue, ...] = ()


class ParamEntry(Value):
    """One entry of a mapping. Keys are scalars (class labels may be integers)."""

    key: ParamValue
    value: ParamValue


class ParamMapping(Value):
    """A dict, such as class_weight={0: 1.0, 1: 2.5}."""

    entries: tuple[ParamEntry, ...] = ()


class EstimatorSpec(Value):
    """An object to build: `path` is its public import path (sklearn.ensemble.RandomForestClassifier).

    Parameters that are left out keep scikit-learn's defaults.
    """

    path: str = Field(min_length=1, max_length=200)
    params: dict[str, ParamValue] = Field(default_factory=dict)

    @property
    def class_name(self) -> str:
        """RandomForestClassifier for sklearn.ensemble.RandomForestClassifier."""
        return self.path.rpartition(".")[2]
