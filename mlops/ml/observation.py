"""Takes progress out of a fit without changing its result or, measurably, its time.

Which estimators say how far they are, and how:

- what runs on joblib (forests, voting, stacking, one-vs-rest, searches): joblib's count of completed tasks
- GradientBoosting: its `monitor`
- HistGradientBoosting, MLP, SGD, Bagging: the lines they print
- LogisticRegression with lbfgs: scikit-learn's callbacks
- pipelines: each step that is done, then whatever the last step says

Everything else is silent until it is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.pipeline import Pipeline

from mlops.ml import console, tasks
from mlops.ml.progress import Meter


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What an observed fit needs: parameters to hand to `fit`."""

    fit_params: dict[str, Any] = field(default_factory=dict)


def layers(estimator: Any, *, fitted: bool = False) -> list[tuple[str, Any]]:
    """From the outside in, (prefix of its fit parameters, estimator), down to the one that predicts.

    fitted: follow what the fit made (a target transformer fits a copy of its regressor).
    """
    found, prefix = [("", estimator)], ""
    while True:
        outer = found[-1][1]
        if isinstance(outer, Pipeline):
            name, inner = outer.steps[-1]
            prefix += f"{name}__"
        elif isinstance(outer, TransformedTargetRegressor):
            inner = getattr(outer, "regressor_", None) if fitted else outer.regressor
        else:
            return found
        if inner is None or isinstance(inner, str):
            return found
        found.append((prefix, inner))


@contextmanager
def observe(estimator: Any, meter: Meter, *, classes: int = 0) -> Iterator[Observation]:
    """While the context lasts, a fit of `estimator` ticks `meter`. `classes`: how many the target has.

    What is switched on for it (verbosity, callbacks) is as before when the context ends.
    """
    chain = layers(estimator)
    prefix, predictor = chain[-1]
    kind = type(predictor).__name__
    watcher = _Watcher(predictor, meter, classes=classes, pipelines=[e for _, e in chain if isinstance(e, Pipeline)])
    fit_params: dict[str, Any] = {}
    with ExitStack() as stack:
        stack.enter_context(_verbose(estimator, watcher))
        stack.enter_context(redirect_stdout(console.LineReader(watcher.on_line)))
        if watcher.dialect and watcher.dialect.chats:
            stack.enter_context(redirect_stderr(console.LineReader(_ignore)))
        if watcher.dialect is None:
            stack.enter_context(tasks.counted(watcher.on_task))
        if kind in ("GradientBoostingClassifier", "GradientBoostingRegressor"):
            fit_params[f"{prefix}monitor"] = watcher.on_stage
        if kind == "LogisticRegression" and predictor.solver == "lbfgs":
            predictor.set_callbacks(_Iterations(predictor, meter))
            stack.callback(predictor.set_callbacks)
        yield Observation(fit_params=fit_params)


@contextmanager
def _verbose(estimator: Any, watcher: _Watcher) -> Iterator[None]:
    chain = [inner for _, inner in layers(estimator)]
    wanted = [
        True if isinstance(inner, Pipeline) else watcher.dialect.verbose if watcher.dialect and last else None
        for inner, last in zip(chain, [False] * (len(chain) - 1) + [True], strict=True)
    ]
    before = [getattr(inner, "verbose", None) for inner in chain]
    for inner, verbose in zip(chain, wanted, strict=True):
        if verbose is not None:
            inner.verbose = verbose
    try:
        yield
    finally:
        for copies in (chain, [inner for _, inner in layers(estimator, fitted=True)]):
            for inner, verbose, original in zip(copies, wanted, before, strict=False):
                if verbose is not None:
                    inner.verbose = original


class _Watcher:
    """Makes ticks of lines, tasks and stages, once the predictor itself is being fitted."""

    def __init__(self, predictor: Any, meter: Meter, *, classes: int, pipelines: list[Pipeline]) -> None:
        kind = type(predictor).__name__
        self.dialect = console.dialect_of(kind, classes=classes)
        if self.dialect and kind.startswith("MLP") and predictor.solver == "lbfgs":
            self.dialect = None  # it prints nothing of use
        self._predictor = predictor
        self._meter = meter
        self._awaited = sum(len(pipeline.steps) - 1 for pipeline in pipelines)
        self._lines = 0
        # Tasks that joblib did for the transformers before the predictor.
        self._tasks_before: int | None = 0 if self._awaited == 0 else None
        self._unit, self._total = _expected_tasks(predictor, classes)

    def on_line(self, line: str) -> None:
        """A line was printed."""
        if self._awaited and (stage := console.PIPELINE_STEP.search(line)):
            self._awaited -= 1
            self._meter.say(f"{stage['name']} done, step {stage['step']} of {stage['total']}")
            return
        if self._awaited or self.dialect is None or not (match := self.dialect.line.match(line)):
            return
        groups = match.groupdict()
        self._lines += 1
        step = int(groups.get("step") or self._lines)
        total = int(getattr(self._predictor, self.dialect.total))
        values = {name: float(groups[name]) for name in self.dialect.values if groups.get(name)}
        self._meter.tick(step, total, f"{self.dialect.unit} {step} of {total}", **values)

    def on_task(self, done: int, before: int) -> None:
        """joblib completed a task."""
        if self._awaited:
            return
        if self._tasks_before is None:
            self._tasks_before = before
        count = done + before - self._tasks_before
        total = self._total
        self._meter.tick(count, total, f"{self._unit} {count} of {total}" if total else f"{count} tasks done")

    def on_stage(self, index: int, model: Any, _: dict[str, Any]) -> bool:
        """GradientBoosting finished stage `index` (from 0). Never asks it to stop."""
        total = model.n_estimators
        message = f"iteration {index + 1} of {total}"
        self._meter.tick(index + 1, total, message, loss=float(model.train_score_[index]))
        return False


class _Iterations:
    """A scikit-learn callback that ticks for each iteration of the lbfgs solver."""

    def __init__(self, predictor: Any, meter: Meter) -> None:
        self._total = int(predictor.max_iter)
        self._meter = meter
        self._done = 0

    def setup(self, estimator: Any, context: Any) -> None:
        """Part of the protocol; nothing to set up."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Part of the protocol; nothing to take down."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Part of the protocol; only ends count."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        """Ticks. Never asks the solver to stop."""
        if context.task_name == "lbfgs-iter":
            self._done += 1
            self._meter.tick(self._done, self._total, f"iteration {self._done} of at most {self._total}")
        return False


def _ignore(line: str) -> None:
    """What joblib prints about itself is of no use to anyone."""


def _expected_tasks(predictor: Any, classes: int) -> tuple[str, int | None]:
    """(what a task of joblib is, how many there will be) in a fit of this predictor; None where unknown."""
    kind = type(predictor).__name__
    if kind.startswith(("RandomForest", "ExtraTrees")):
        return "tree", int(predictor.n_estimators)
    if kind.startswith("Voting"):
        return "estimator", len(predictor.estimators)
    if kind.startswith("Stacking"):
        # Each is fitted on everything, and once more in cross-validation.
        return "estimator", len(predictor.estimators) * (1 if predictor.cv == "prefit" else 2)
    if kind == "OneVsRestClassifier" and classes:
        return "class", classes if classes > 2 else 1
    if kind == "OneVsOneClassifier" and classes:
        return "pair", classes * (classes - 1) // 2
    if kind == "GridSearchCV":
        return "fit", len(ParameterGrid(predictor.param_grid)) * _splits(predictor.cv)
    if kind == "RandomizedSearchCV":
        return "fit", int(predictor.n_iter) * _splits(predictor.cv)
    return "task", None


def _splits(cv: Any) -> int:
    return int(check_cv(cv).get_n_splits())
