"""Which model a call means."""

from __future__ import annotations

from typing import Any

import pytest

from mlops import errors
from mlops.client.reference import ModelReference, model_reference
from tests.fixtures import fake_values


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("churn",), ModelReference(name="churn")),
        (("churn/3",), ModelReference(name="churn", version=3)),
        (("models:/churn/3",), ModelReference(name="churn", version=3)),
        (("my model@champion",), ModelReference(name="my model", alias="champion")),
        (("churn", 3), ModelReference(name="churn", version=3)),
        (("churn", None, "blue"), ModelReference(name="churn", alias="blue")),
        ((fake_values.MODEL,), ModelReference(name="churn")),
        ((fake_values.MODEL, 2), ModelReference(name="churn", version=2)),
        ((fake_values.VERSION,), ModelReference(name="churn", version=1)),
        ((fake_values.RESULT,), ModelReference(name="churn", version=1)),
    ],
    ids=str,
)
def test_a_model_is_meant_by_its_name_or_by_what_the_client_returned(given: Any, meant: ModelReference) -> None:
    assert model_reference(*given) == meant


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("churn/3", 4), "3 and 4"),
        (("churn@blue", None, "green"), "blue and green"),
        (("churn", 3, "blue"), "3 and blue"),
        ((fake_values.VERSION, None, "blue"), "1 and blue"),
        (("",), "names no model"),
        (("churn/0",), "names no model"),
        (("churn/x",), "names no model"),
        (("a/b/3",), "names no model"),
        (("churn@",), "names no model"),
        ((None,), "names no model"),
        (("churn", 0), "no version"),
        (("churn", True), "no version"),
        ((fake_values.RESULT.model_copy(update={"model_name": None}),), "registered none"),
    ],
    ids=str,
)
def test_what_names_no_model_or_two_versions_is_refused(given: Any, problem: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=problem):
        model_reference(*given)
