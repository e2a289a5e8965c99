"""Bad rows are found among good ones, whatever block they come in; strangers' categories are read."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from mlops.jobs.card import Engine, FeatureSpec, PredictMethod
from mlops.jobs.dataset import ColumnKind
from mlops.ml.batch.careful import Careful
from mlops.ml.batch.coerce import coerced
from mlops.ml.prediction import Predicted, Predictor


class Picky:
    """A predictor that fails on a batch with a negative number in it."""

    def predict(self, inputs: Any, methods: Any, *, engine: Engine | None = None) -> Predicted:
        if (inputs < 0).any():
            raise ValueError("a negative number")
        return Predicted(outputs={PredictMethod.PREDICT: inputs[:, 0]}, engine=Engine.SKLEARN)


def test_a_block_of_bad_rows_behind_good_ones_is_put_aside_row_by_row() -> None:
    careful = Careful(cast("Predictor", Picky()), (PredictMethod.PREDICT,), Engine.SKLEARN)
    assert careful.predict(np.ones((20, 1)), 20).failed == {}
    answered = careful.predict(-np.ones((20, 1)), 20)
    assert sorted(answered.failed) == list(range(20))


def test_few_rows_are_tried_one_by_one_whichever_they_are() -> None:
    careful = Careful(cast("Predictor", Picky()), (PredictMethod.PREDICT,), Engine.SKLEARN)
    rows = np.ones((11, 1))
    rows[[0, 5, 10]] = -1
    assert sorted(careful.predict(rows, 11).failed) == [0, 5, 10]


@pytest.mark.parametrize("index", [pa.uint8(), pa.uint32(), pa.int8()])
def test_categories_may_be_numbered_without_a_sign(index: Any) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], index), ["a", "b"])
    found = coerced(FeatureSpec(name="c", kind=ColumnKind.CATEGORICAL, required=False), column)
    assert next(iter(found.values)) == "b"
    assert [*found.values][2] == "a"
    assert found.missing is not None
    assert found.missing.tolist() == [False, True, False]
