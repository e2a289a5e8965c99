"""The error tree: every class survives a pickle and knows its reason."""

from __future__ import annotations

import inspect
import pickle

import pytest

from mlops import errors
from mlops.errors import MlopsError, error_classes


@pytest.mark.parametrize("kind", error_classes().values(), ids=lambda kind: kind.__name__)
def test_every_error_survives_a_pickle_with_its_details(kind: type[MlopsError]) -> None:
    given = {
        name: {"spec.target": "missing"} if name == "violations" else f"a {name}"
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    error = kind("it broke", extra=3, **given)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert (copy.message, str(copy), copy.details) == (error.message, str(error), error.details)
    assert copy.details["extra"] == 3
    assert all(getattr(copy, name) == value for name, value in given.items())


def test_reasons_are_the_names_in_capitals() -> None:
    assert errors.RequestIdReused("x").reason == "REQUEST_ID_REUSED"
    assert error_classes()["REQUEST_ID_REUSED"] is errors.RequestIdReused


def test_the_docstring_draws_every_class() -> None:
    drawn = (errors.__doc__ or "").split()
    assert {kind.__name__ for kind in error_classes().values()} <= set(drawn)
