from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from mlops.ml.observation import observe
from mlops.ml.progress import MAX_POINTS, Meter, portion, silent
from mlops.ml.tasks import counted

X, Y = make_classification(300, 6, n_informative=4, n_classes=3, random_state=0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The fits are tiny: threads of OpenMP would only wait for each other."""
    with threadpool_limits(1):
        yield


class Heard:
    """A report that keeps everything."""

    def __init__(self) -> None:
        self.calls: list[tuple[float | None, str, dict[str, float]]] = []

    def __call__(self, fraction: float | None, message: str = "", **values: float) -> None:
        self.calls.append((fraction, message, values))

    @property
    def fractions(self) -> list[float]:
        return [fraction for fraction, _, _ in self.calls if fraction is not None]

    @property
    def messages(self) -> list[str]:
        return [message for _, message, _ in self.calls]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_meter_reports_about_five_times_a_second_and_always_the_end() -> None:
    heard, clock = Heard(), Clock()
    meter = Meter(heard, clock=clock)
    for done in range(1, 1001):
        clock.now += 0.01
        meter.tick(done, 1000, f"{done}")
    assert len(heard.calls) == pytest.approx(50, abs=2)
    assert heard.calls[-1][:2] == (1.0, "1000")


def test_a_meter_keeps_at_most_200_points_with_the_first_and_the_last() -> None:
    meter = Meter(silent)
    for done in range(1, 5001):
        meter.tick(done, None, "", loss=1 / done, validation_loss=2 / done)
    points = meter.points()
    assert len(points) == MAX_POINTS
    losses = [point.step for point in points if point.name == "loss"]
    assert losses[0] == 1
    assert losses[-1] == 5000
    assert losses == sorted(set(losses))


def test_a_meter_drops_numbers_that_json_cannot_hold() -> None:
    heard = Heard()
    meter = Meter(heard)
    meter.tick(1, 2, "", loss=float("nan"), score=1.0)
    assert heard.calls == [(0.5, "", {"score": 1.0})]


def test_a_fraction_never_goes_back_when_threads_report_out_of_order() -> None:
    heard = Heard()
    meter = Meter(heard, interval_seconds=0)
    for done in (2, 1, 3):
        meter.tick(done, 4, "")
    assert heard.fractions == [0.5, 0.5, 0.75]


def test_a_portion_of_a_step_maps_its_fractions() -> None:
    heard = Heard()
    portion(heard, 0.5, 0.9)(0.5, "half", loss=1.0)
    portion(heard, 0.5, 0.9)(None, "unknown")
    assert heard.calls == [(pytest.approx(0.7), "half", {"loss": 1.0}), (None, "unknown", {})]


@pytest.mark.parametrize("jobs", [1, 2])
def test_joblib_tasks_are_counted_on_every_backend_and_nested_ones_are_not(jobs: int) -> None:
    def inner(_: int) -> int:
        return len(joblib.Parallel(n_jobs=1)(joblib.delayed(abs)(i) for i in range(3)))

    seen: list[tuple[int, int]] = []
    with counted(lambda done, before: seen.append((done, before))):
        joblib.Parallel(n_jobs=jobs, backend="threading")(joblib.delayed(inner)(i) for i in range(4))
        joblib.Parallel(n_jobs=jobs, backend="threading")(joblib.delayed(abs)(i) for i in range(2))
    assert max(done for done, before in seen if before == 0) == 4
    assert max(done for done, before in seen if before == 4) == 2
    assert {before for _, before in seen} == {0, 4}


def test_joblib_is_as_before_when_the_counting_ends() -> None:
    before = (joblib.Parallel.__call__, joblib.Parallel.print_progress)

    def run() -> None:
        with counted(lambda done, total: None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert (joblib.Parallel.__call__, joblib.Parallel.print_progress) == before


FOREST = RandomForestClassifier(12, random_state=0)
CASES = [
    pytest.param(FOREST, "tree 12 of 12", id="forest"),
    pytest.param(BaggingClassifier(n_estimators=8, random_state=0), "estimator 8 of 8", id="bagging"),
    pytest.param(
        VotingClassifier([("a", DecisionTreeClassifier(random_state=0)), ("b", clone(FOREST))]),
        "estimator 2 of 2",
        id="voting",
    ),
    pytest.param(
        StackingClassifier([("a", DecisionTreeClassifier(random_state=0)), ("b", LogisticRegression())]),
        "estimator 4 of 4",
        id="stacking",
    ),
    pytest.param(OneVsRestClassifier(clone(FOREST)), "class 3 of 3", id="one-vs-rest"),
    pytest.param(
        GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2]}, cv=3), "fit 6 of 6", id="search"
    ),
    pytest.param(
        GradientBoostingClassifier(n_estimators=7, random_state=0), "iteration 7 of 7", id="gradient-boosting"
    ),
    pytest.param(HistGradientBoostingClassifier(max_iter=9), "iteration 9 of 9", id="hist-gradient-boosting"),
    pytest.param(
        HistGradientBoostingRegressor(max_iter=9, early_stopping=True, random_state=0),
        "iteration 9 of 9",
        id="early-stopping",
    ),
    pytest.param(
        TransformedTargetRegressor(HistGradientBoostingRegressor(max_iter=9)), "iteration 9 of 9", id="target"
    ),
    pytest.param(MLPClassifier((4,), max_iter=5, tol=0, random_state=0), "iteration 5 of 5", id="perceptron"),
    pytest.param(SGDRegressor(max_iter=6, tol=None, random_state=0), "epoch 6 of 6", id="sgd"),
]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("estimator", "last"), CASES)
def test_an_observed_fit_reports_to_its_end_and_gives_the_same_model(
    estimator: Any, last: str, jobs: int, in_pipeline: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if in_pipeline:
        scaled = ColumnTransformer([("low", StandardScaler(), [0, 1, 2]), ("high", StandardScaler(), [3, 4, 5])])
        estimator = Pipeline([("scale", scaled), ("model", estimator)])
    plain, observed = clone(estimator).fit(X, Y), clone(estimator)
    heard = Heard()
    meter = Meter(heard, interval_seconds=0)
    with (
        joblib.parallel_config(backend="threading", n_jobs=jobs),
        observe(observed, meter, classes=3) as observation,
    ):
        observed.fit(X, Y, **observation.fit_params)
    np.testing.assert_array_equal(plain.predict(X), observed.predict(X))
    assert last in heard.messages
    assert heard.fractions == sorted(heard.fractions)
    assert heard.fractions[-1] == 1.0
    assert len(heard.fractions) > 1
    assert [message for message in heard.messages if "scale" in message] == (
        ["scale done, step 1 of 2"] if in_pipeline else []
    )
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize(
    ("estimator", "names"),
    [
        (GradientBoostingClassifier(n_estimators=5), {"loss"}),
        (HistGradientBoostingClassifier(max_iter=5, early_stopping=True), {"loss", "validation_loss"}),
        (
            HistGradientBoostingClassifier(max_iter=5, early_stopping=True, scoring="accuracy"),
            {"score", "validation_score"},
        ),
        (SGDRegressor(max_iter=5, tol=None), {"loss"}),
    ],
)
def test_losses_are_kept_as_progress_points(estimator: Any, names: set[str]) -> None:
    meter = Meter(silent)
    with observe(estimator, meter, classes=3) as observation:
        estimator.fit(X, Y, **observation.fit_params)
    points = meter.points()
    assert {point.name for point in points} == names
    assert [point.step for point in points if point.name == min(names)] == [1, 2, 3, 4, 5]


def test_a_binary_sgd_classifier_reports_its_epochs() -> None:
    heard = Heard()
    model = SGDClassifier(max_iter=4, tol=None, random_state=0)
    with observe(model, Meter(heard, interval_seconds=0), classes=2):
        model.fit(X, Y == 0)
    assert heard.messages[-1] == "epoch 4 of 4"


def test_logistic_regression_reports_iterations_and_keeps_no_callbacks() -> None:
    heard = Heard()
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    with observe(model, Meter(heard, interval_seconds=0), classes=3):
        model.fit(X, Y)
    assert heard.messages[0] == "scale done, step 1 of 2"
    assert heard.messages[1].startswith("iteration 1 of at most 100")
    assert not getattr(model[-1], "_skl_callbacks", None)


def test_parameters_are_as_before_when_a_fit_fails() -> None:
    model = Pipeline([("scale", StandardScaler()), ("model", HistGradientBoostingClassifier())])
    with pytest.raises(ValueError, match=r"[Ii]nconsistent"), observe(model, Meter(silent), classes=3):
        model.fit(X, Y[:-1])
    assert model.verbose is False
    assert model[-1].verbose == 0


def test_the_copy_that_a_target_transformer_fits_is_not_left_verbose() -> None:
    inner = Pipeline([("scale", StandardScaler()), ("model", HistGradientBoostingRegressor(max_iter=3))])
    model = TransformedTargetRegressor(inner)
    with observe(model, Meter(silent)):
        model.fit(X, Y)
    assert model.regressor_.verbose is False
    assert model.regressor_[-1].verbose == 0


def test_an_estimator_that_says_nothing_fits_in_silence() -> None:
    heard = Heard()
    model = DecisionTreeClassifier()
    with observe(model, Meter(heard), classes=3) as observation:
        model.fit(X, Y)
    assert observation.fit_params == {}
    assert heard.calls == []


def test_a_meter_may_be_used_by_many_threads() -> None:
    meter = Meter(silent)

    def work() -> None:
        for done in range(200):
            meter.tick(done, 200, "", loss=float(done))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(meter.points()) == MAX_POINTS
