"""Exports a model to ONNX where that is faithful and pays. Runs in a child of the pool, at registration."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from mlops import names
from mlops.jobs.card import Engine, EngineTiming, ModelCard, OnnxExport, PredictMethod
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.training import StepTask
from mlops.ml import modelfile
from mlops.ml.cores import on_cores
from mlops.ml.failures import bounded
from mlops.ml.frame import load_frame
from mlops.ml.namefree import forget_names
from mlops.ml.onnx_convert import converted, has_trees
from mlops.ml.onnx_engine import OnnxEngine
from mlops.ml.prediction import Matrix, Predictor, as_matrix
from mlops.ml.progress import Report

# Numbers may differ by this share of their size, and absolutely where they are below 1.
TOLERANCE = 1e-5
CHECKED_ROWS = 2000
MEASURED_ROWS = (1, 32, 1000)
# Converting takes about seven times the file's size in memory, and 0.15 s a megabyte.
MAX_MODEL_BYTES = 200 * 1024**2
# Of measuring one engine at one size; six of these make up the whole.
MEASURE_SECONDS = 0.1
MIN_REPEATS, MAX_REPEATS = 3, 25
_KINDS = frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN})
_REASON_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class ExportCall:
    """What to export. data: the dataset's canonical Arrow file; model: the directory that holds model.skops and
    card.json; out: an existing, empty directory.
    """

    task: StepTask
    data: Path
    model: Path
    out: Path


@dataclass(frozen=True, kw_only=True)
class _Agreement:
    """methods: those in which both engines agree; problem: what is wrong with the others."""

    methods: tuple[PredictMethod, ...]
    max_difference: float
    problem: str


def export(call: ExportCall, report: Report) -> OnnxExport:
    """Leaves onnx.json in `call.out`, and before it model.onnx where ONNX agrees with scikit-learn and is faster.

    They agree in a method where, on up to CHECKED_ROWS rows of the data, all labels are equal and all numbers are
    within TOLERANCE. Whatever cannot be converted is no error, but a reason.
    """
    with on_cores(1), threadpool_limits(1):
        try:
            found = _export(call, report)
        except Exception as error:  # noqa: BLE001 - a converter may fail in any way, and the model is good without it
            found = _none(f"the conversion failed: {type(error).__name__}: {error!s}")
    path = call.out / names.ONNX_FILE
    if found.reason:
        path.unlink(missing_ok=True)
    (call.out / names.ONNX_NOTES_FILE).write_text(found.model_dump_json(), encoding="utf-8")
    report(1.0, found.reason or "done")
    return found


def _export(call: ExportCall, report: Report) -> OnnxExport:
    card = ModelCard.model_validate_json((call.model / names.CARD_FILE).read_bytes())
    size = (call.model / names.STEP_MODEL).stat().st_size
    if size > MAX_MODEL_BYTES:
        return _none(f"the model's file of {size} bytes is larger than the {MAX_MODEL_BYTES} that are converted")
    other = next((feature for feature in card.features if feature.kind not in _KINDS), None)
    if other is not None:
        return _none(f"only numbers and booleans are converted, and {other.name!r} is {other.kind.value}")
    report(0.0, "loading the model")
    model = modelfile.load(call.model / names.STEP_MODEL)
    if not forget_names(model):
        return _none("a part of the model needs a DataFrame")
    matrix = _sample(call)
    problem = ""
    for is_double in (False,) if has_trees(model) else (True, False):
        report(0.2, "converting")
        try:
            (call.out / names.ONNX_FILE).write_bytes(converted(model, len(card.features), is_double=is_double))
            onnx = OnnxEngine(call.out / names.ONNX_FILE)
            report(0.5, "comparing")
            agreement = _compare(model, onnx, card, matrix)
        except Exception as error:  # noqa: BLE001 - the other type of numbers may still do
            problem = problem or f"the conversion failed: {type(error).__name__}: {error!s}"
            continue
        if agreement.methods:
            report(0.6, "measuring")
            return _measured(model, onnx, card, matrix, agreement)
        problem = agreement.problem
    return _none(problem)


def _none(reason: str) -> OnnxExport:
    return OnnxExport(reason=bounded(reason, _REASON_CHARACTERS), tolerance=TOLERANCE)


def _sample(call: ExportCall) -> Matrix:
    """Rows of the training data, evenly spread."""
    frame = load_frame(call.data, call.task.plan.features)
    rows = frame.iloc[:: max(1, -(-len(frame) // CHECKED_ROWS))]
    return as_matrix([rows.iloc[:, index].to_numpy() for index in range(rows.shape[1])])


def _compare(model: Any, onnx: OnnxEngine, card: ModelCard, matrix: Matrix) -> _Agreement:
    methods: list[PredictMethod] = []
    largest, problem = 0.0, ""
    predictor = _both(model, onnx, card, _candidates(card))
    for method in _candidates(card):
        ours = predictor.predict(matrix, (method,), engine=Engine.ONNX).outputs[method]
        theirs = predictor.predict(matrix, (method,), engine=Engine.SKLEARN).outputs[method]
        if ours.shape != theirs.shape:
            problem = f"{method.value} has the shape {ours.shape} and not {theirs.shape}"
        elif theirs.dtype.kind == "f":
            difference = _difference(ours, theirs)
            if difference <= TOLERANCE:
                methods.append(method)
                largest = max(largest, difference)
            else:
                problem = f"{method.value} differs by {difference:.2g}, more than {TOLERANCE:.0e}"
        elif (ours == theirs).all():
            methods.append(method)
        else:
            problem = f"{int((ours != theirs).sum())} of {len(theirs)} labels differ"
    return _Agreement(methods=tuple(methods), max_difference=largest, problem=problem)


def _candidates(card: ModelCard) -> tuple[PredictMethod, ...]:
    """Decision values have no output of their own in ONNX."""
    return tuple(method for method in card.methods if method is not PredictMethod.DECISION_FUNCTION)


def _difference(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> float:
    return float((np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))).max(initial=0.0))


def _both(model: Any, onnx: OnnxEngine, card: ModelCard, methods: Sequence[PredictMethod]) -> Predictor:
    return Predictor(model, card, export=OnnxExport(methods=tuple(methods)), onnx=onnx)


def _measured(model: Any, onnx: OnnxEngine, card: ModelCard, matrix: Matrix, agreement: _Agreement) -> OnnxExport:
    predictor = _both(model, onnx, card, agreement.methods)
    # The method that says most is what takes longest.
    method = agreement.methods[-1]
    timings = tuple(_timings(predictor, method, matrix))
    if all(timing.onnx_ms >= timing.sklearn_ms for timing in timings):
        shown = ", ".join(f"{t.onnx_ms:.3g} ms against {t.sklearn_ms:.3g} ms for {t.rows} rows" for t in timings)
        return _none(f"scikit-learn is faster at every size: {shown}")
    return OnnxExport(
        max_difference=agreement.max_difference,
        tolerance=TOLERANCE,
        rows_checked=len(matrix),
        methods=agreement.methods,
        timings=timings,
        size_bytes=onnx.size_bytes,
    )


def _timings(predictor: Predictor, method: PredictMethod, matrix: Matrix) -> Iterator[EngineTiming]:
    for rows in MEASURED_ROWS:
        block = np.resize(matrix, (rows, matrix.shape[1]))

        def run(engine: Engine, block: Matrix = block) -> None:
            predictor.predict(block, (method,), engine=engine)

        yield EngineTiming(
            rows=rows,
            sklearn_ms=_median_ms(lambda: run(Engine.SKLEARN)),
            onnx_ms=_median_ms(lambda: run(Engine.ONNX)),
        )


def _median_ms(call: Callable[[], None]) -> float:
    call()
    seconds: list[float] = []
    ends = time.perf_counter() + MEASURE_SECONDS
    while len(seconds) < MIN_REPEATS or (len(seconds) < MAX_REPEATS and time.perf_counter() < ends):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000
