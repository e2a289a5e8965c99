from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from mlops import names
from mlops.errors import InvalidRequest, UnsafeModel
from mlops.jobs.card import Engine, LabelType, PredictMethod, card_from_signature
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.model import Signature, SignatureColumn
from mlops.jobs.training import Task
from mlops.ml.frame import load_frame
from mlops.ml.modelcache import ModelCache
from mlops.ml.namefree import forget_names
from mlops.ml.prediction import Predictor, as_matrix
from tests.fixtures.plans import flowers, prices
from tests.unit.stored_models import columns_of, mixed, store_model

EVERYTHING = tuple(PredictMethod)


def numbers(rows: int = 200) -> pd.DataFrame:
    """Numbers of both types and booleans."""
    frame = flowers(rows, classes=3)
    rng = np.random.default_rng(1)
    frame.insert(0, "whole", rng.integers(-3, 4, rows))
    frame.insert(1, "truth", rng.random(rows) < 0.5)
    return frame


MODELS: dict[str, Any] = {
    "linear": make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": RandomForestClassifier(10, random_state=0),
    "boosting": HistGradientBoostingClassifier(max_iter=5),
    "boosting of categories": HistGradientBoostingClassifier(max_iter=5, categorical_features=["whole", "truth"]),
    "machine": SVC(),
    "search": GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    "voting": VotingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(5, random_state=0))], voting="soft"),
    "stacking": StackingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(5, random_state=0))], cv=2),
    "union": make_pipeline(make_union(StandardScaler(), KBinsDiscretizer(2, strategy="uniform")), LogisticRegression()),
    "columns": make_pipeline(
        make_column_transformer(
            (StandardScaler(), ["a", "b"]),
            (SimpleImputer(), slice("c", "noise")),
            (OneHotEncoder(handle_unknown="ignore"), ["whole", "truth"]),
            remainder="passthrough",
        ),
        LogisticRegression(),
    ),
    "one encoder for all": make_pipeline(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), RandomForestClassifier(5, random_state=0)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_matrix_gives_to_the_bit_what_the_stored_model_gives_for_a_frame(name: str, tmp_path: Path) -> None:
    frame = numbers()
    theirs, card, plan = store_model(MODELS[name], frame, tmp_path)
    predictor = Predictor.load(tmp_path)
    features = load_frame(tmp_path / "data.arrow", plan.features)
    # Values that training never saw, too.
    features = pd.concat([features, features.assign(whole=features["whole"] + 7)], ignore_index=True)
    columns = columns_of(features)
    assert predictor.takes_matrix
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_matrix = predictor.predict(as_matrix(columns), card.methods)
        by_columns = predictor.predict(columns, card.methods)
    assert by_matrix.engine is Engine.SKLEARN
    for method in card.methods:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = getattr(theirs, method.value)(features)
        for found in (by_matrix.outputs[method], by_columns.outputs[method]):
            if expected.dtype.kind == "f":
                # The sums of a matrix product may be taken in another order.
                np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
            else:
                np.testing.assert_array_equal(found, expected)
            assert found.shape == expected.shape
    assert by_matrix.outputs[PredictMethod.PREDICT].dtype.kind == "U"


def test_columns_of_every_kind_reach_a_pipeline_as_they_did_in_training(tmp_path: Path) -> None:
    model = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", SimpleImputer(), ["real", "gap", "when", "whole"]),
                ("flags", "passthrough", ["truth"]),
                ("words", OneHotEncoder(handle_unknown="ignore"), ["word"]),
                ("text", CountVectorizer(), "note"),
            ]
        ),
        LogisticRegression(solver="liblinear"),
    )
    theirs, card, plan = store_model(model, mixed(), tmp_path)
    predictor = Predictor.load(tmp_path)
    features = load_frame(tmp_path / "data.arrow", plan.features)
    assert not predictor.takes_matrix
    found = predictor.predict(columns_of(features), card.methods)
    np.testing.assert_array_equal(found.outputs[PredictMethod.PREDICT], theirs.predict(features))
    np.testing.assert_array_equal(found.outputs[PredictMethod.PREDICT_PROBA], theirs.predict_proba(features))


def test_a_model_whose_parts_hand_on_frames_is_given_frames(tmp_path: Path) -> None:
    frame = flowers()
    features, target = frame[["a", "b", "c", "noise"]], frame["y"]
    inner = make_column_transformer(
        (StandardScaler(), ["b", "a"]), remainder="passthrough", verbose_feature_names_out=False
    )
    model = make_pipeline(
        inner.set_output(transform="pandas"), make_column_transformer(("passthrough", ["b"])), LogisticRegression()
    )
    model.fit(features, target)
    assert not forget_names(model)
    assert model.predict(features).shape == (150,)


def test_a_function_of_columns_sees_the_types_that_it_saw_in_training(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(np.sinh), LogisticRegression())
    theirs, card, plan = store_model(model, numbers(), tmp_path)
    features = load_frame(tmp_path / "data.arrow", plan.features)
    columns = columns_of(features)
    for inputs in (columns, as_matrix(columns)):
        found = Predictor.load(tmp_path).predict(inputs, card.methods).outputs[PredictMethod.PREDICT_PROBA]
        np.testing.assert_array_equal(found, theirs.predict_proba(features))


@pytest.mark.parametrize(
    ("values", "kind", "dtype"),
    [
        (["rose", "iris"], LabelType.STRING, "U"),
        ([3, -2], LabelType.LONG, "i"),
        ([True, False], LabelType.BOOLEAN, "b"),
    ],
)
def test_labels_come_out_as_scikit_learn_gives_them(
    values: list[Any], kind: LabelType, dtype: str, tmp_path: Path
) -> None:
    frame = flowers(classes=2)
    frame["y"] = pd.Series(values).to_numpy()[(frame["a"] > frame["a"].median()).astype(int)]
    theirs, card, plan = store_model(LogisticRegression(), frame, tmp_path)
    features = load_frame(tmp_path / "data.arrow", plan.features)
    found = (
        Predictor.load(tmp_path).predict(columns_of(features), (PredictMethod.PREDICT,)).outputs[PredictMethod.PREDICT]
    )
    expected = theirs.predict(features)
    assert (card.label_type, found.dtype.kind) == (kind, dtype)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert card.classes == tuple(map(str, theirs.classes_))


def test_a_regression_gives_numbers(tmp_path: Path) -> None:
    for index, model in enumerate(
        (LinearRegression(), TransformedTargetRegressor(Ridge(), transformer=StandardScaler()))
    ):
        theirs, card, plan = store_model(model, prices(), tmp_path / str(index), task=Task.REGRESSION)
        features = load_frame(tmp_path / str(index) / "data.arrow", plan.features)
        found = Predictor.load(tmp_path / str(index)).predict(columns_of(features), (PredictMethod.PREDICT,))
        np.testing.assert_allclose(found.outputs[PredictMethod.PREDICT], theirs.predict(features), rtol=1e-13)
        assert found.outputs[PredictMethod.PREDICT].shape == (150,)
        assert (card.methods, card.classes, card.label_type) == ((PredictMethod.PREDICT,), (), LabelType.DOUBLE)


def test_the_card_names_the_methods_that_work(tmp_path: Path) -> None:
    def methods(model: Any, name: str, classes: int = 3) -> tuple[set[str], int]:
        _, card, _ = store_model(model, flowers(classes=classes), tmp_path / name)
        return {method.value for method in card.methods}, card.decision_columns

    assert methods(LogisticRegression(), "linear") == ({"predict", "predict_proba", "decision_function"}, 3)
    assert methods(LogisticRegression(), "two", 2) == ({"predict", "predict_proba", "decision_function"}, 1)
    assert methods(LinearSVC(), "machine") == ({"predict", "decision_function"}, 3)
    assert methods(SVC(decision_function_shape="ovo"), "pairs", 4) == ({"predict", "decision_function"}, 6)
    assert methods(RandomForestClassifier(3), "forest") == ({"predict", "predict_proba"}, 0)


def test_what_a_model_cannot_do_is_refused_with_what_it_can(tmp_path: Path) -> None:
    store_model(LinearSVC(), flowers(), tmp_path)
    predictor = Predictor.load(tmp_path)
    with pytest.raises(InvalidRequest, match="no predict_proba: ask for predict, decision_function"):
        predictor.predict(np.zeros((1, 4)), (PredictMethod.PREDICT_PROBA,))
    with pytest.raises(InvalidRequest, match="not exported"):
        predictor.predict(np.zeros((1, 4)), (PredictMethod.PREDICT,), engine=Engine.ONNX)


def test_a_file_that_is_no_model_is_not_loaded(tmp_path: Path) -> None:
    store_model(LinearSVC(), flowers(), tmp_path)
    (tmp_path / names.STEP_MODEL).write_bytes(b"something else")
    with pytest.raises(UnsafeModel):
        Predictor.load(tmp_path)


def test_a_row_costs_little_more_than_the_models_own_predict(tmp_path: Path) -> None:
    theirs, _, _ = store_model(make_pipeline(StandardScaler(), LogisticRegression()), flowers(), tmp_path)
    forget_names(theirs)
    predictor, row = Predictor.load(tmp_path), np.zeros((1, 4))

    def fastest(call: Any) -> float:
        seconds = []
        for _ in range(300):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    ours = fastest(lambda: predictor.predict(row, (PredictMethod.PREDICT,)))
    assert ours - fastest(lambda: theirs.predict(row)) < 0.0001


def test_a_card_can_be_made_of_a_signature_alone() -> None:
    types = {"a": "double", "b": "long", "c": "boolean", "d": "string", "e": "datetime", "f": "float", "g": "integer"}
    signature = Signature(
        inputs=tuple(SignatureColumn(name=name, type=kind, required=name != "d") for name, kind in types.items()),
        outputs=(SignatureColumn(name="y", type="string"),),
    )
    card = card_from_signature(signature)
    number = ColumnKind.NUMERIC
    kinds = [number, number, ColumnKind.BOOLEAN, ColumnKind.CATEGORICAL, ColumnKind.DATETIME, number, number]
    assert [feature.kind for feature in card.features] == kinds
    assert [feature.name for feature in card.features if not feature.required] == ["d"]
    assert (card.target, card.task, card.label_type) == ("y", Task.CLASSIFICATION, LabelType.STRING)
    assert card.methods == (PredictMethod.PREDICT,)
    assert card_from_signature(signature.model_copy(update={"outputs": ()})).task is Task.REGRESSION
    with pytest.raises(InvalidRequest, match="'x' of type 'binary'"):
        card_from_signature(Signature(inputs=(SignatureColumn(name="x", type="binary"),)))
    with pytest.raises(InvalidRequest, match="no signature"):
        card_from_signature(Signature())


def test_the_cache_keeps_what_was_used_last_within_its_bytes(tmp_path: Path) -> None:
    for name in "abc":
        store_model(LogisticRegression(), flowers(), tmp_path / name)
    size = Predictor.load(tmp_path / "a").resident_bytes
    cache = ModelCache(max_bytes=2 * size)
    first, second = cache.get(tmp_path / "a"), cache.get(tmp_path / "b")
    assert cache.get(tmp_path / "a") is first
    cache.get(tmp_path / "c")
    assert cache.held_bytes <= 2 * size
    assert cache.get(tmp_path / "a") is first
    assert cache.get(tmp_path / "b") is not second


def test_the_cache_keeps_one_model_that_is_larger_than_it(tmp_path: Path) -> None:
    store_model(LogisticRegression(), flowers(), tmp_path)
    cache = ModelCache(max_bytes=1)
    assert cache.get(tmp_path) is cache.get(tmp_path)
    cache.drop(tmp_path)
    assert cache.held_bytes == 0
