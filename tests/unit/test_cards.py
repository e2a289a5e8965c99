from __future__ import annotations

from pathlib import Path

import numpy as np

from mlops import names
from mlops.jobs.card import FeatureSpec, LabelType, ModelCard, PredictMethod
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.training import Task
from mlops.ml.prediction import Predictor
from tests.fixtures.plans import Run, flowers
from tests.unit.stored_models import mixed, store_model
from tests.unit.test_batch import full_model


def test_the_final_fit_leaves_a_card_that_the_model_can_be_served_by(tmp_path: Path) -> None:
    run = Run(flowers(), tmp_path, folds=2)
    run.step()
    run.step(0)
    out = tmp_path / names.FIT_STEP
    card = ModelCard.model_validate_json((out / names.CARD_FILE).read_bytes())
    assert (card.task, card.target, card.label_type) == (Task.CLASSIFICATION, "y", LabelType.STRING)
    assert card.classes == ("iris", "rose", "tulip")
    assert card.methods == tuple(PredictMethod)
    assert card.decision_columns == 3
    assert card.size_bytes == (out / names.STEP_MODEL).stat().st_size
    assert [reference.name for reference in card.reference] == ["a", "b", "c", "noise"]
    # What drift is measured against is all that was trained on, the hold-out included: its rows are as typical.
    assert [len(reference.edges) for reference in card.reference] == [19] * 4
    assert not (tmp_path / names.fold_step(0) / names.CARD_FILE).exists()
    assert Predictor.load(out).predict(np.zeros((1, 4)), (PredictMethod.PREDICT,)).outputs[PredictMethod.PREDICT][0] in card.classes  # fmt: skip


def test_features_keep_their_order_and_kind_and_say_what_may_be_missing(tmp_path: Path) -> None:
    _, card, _ = store_model(full_model(), mixed(), tmp_path)
    assert card.features == (
        FeatureSpec(name="real", kind=ColumnKind.NUMERIC),
        FeatureSpec(name="gap", kind=ColumnKind.NUMERIC, required=False),
        FeatureSpec(name="whole", kind=ColumnKind.NUMERIC),
        FeatureSpec(name="truth", kind=ColumnKind.BOOLEAN),
        FeatureSpec(name="word", kind=ColumnKind.CATEGORICAL, required=False),
        FeatureSpec(name="note", kind=ColumnKind.TEXT),
        FeatureSpec(name="when", kind=ColumnKind.DATETIME),
    )
