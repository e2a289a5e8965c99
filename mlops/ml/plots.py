"""The plots of a training that a person wants to look at, as PNG files.

matplotlib is used through its objects, never through pyplot: no global state, no display.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlops.jobs.report import ConfusionMatrix, Curve, Importance
from mlops.ml.curves import PRECISION_RECALL, ROC

DIRECTORY = "plots"
CONFUSION_MATRIX = f"{DIRECTORY}/confusion_matrix.png"
ROC_CURVES = f"{DIRECTORY}/roc.png"
PRECISION_RECALL_CURVES = f"{DIRECTORY}/precision_recall.png"
IMPORTANCES = f"{DIRECTORY}/importances.png"
RESIDUALS = f"{DIRECTORY}/residuals.png"

# More classes than this make a confusion matrix of colours alone; more features are not readable.
_MAX_NUMBERED_CLASSES = 25
_MAX_BARS = 25
_MAX_DOTS = 5000
_MAX_LABEL = 28
_DPI = 130
_BLUE, _RED, _GREY = "#3566a8", "#c0453b", "#9aa0a6"
# matplotlib types its settings as a union of four hundred names, which a dict of ours cannot match.
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5f6368",
    "axes.axisbelow": True,
    "grid.color": "#e3e5e8",
    "legend.frameon": False,
    "legend.fontsize": 9,
    # A name of a class or a feature is text, not a formula.
    "text.usetex": False,
    "text.parse_math": False,
}


def draw_confusion_matrix(matrix: ConfusionMatrix, path: Path, *, rows: str) -> None:
    """Counts, shaded by the share of each true class. `rows` says which rows were judged."""
    counts = np.asarray(matrix.counts, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    count = len(matrix.labels)
    side = min(max(4.6, 1.6 + 0.62 * count), 14.0)
    with _figure(path, side + 1.2, side) as axes:
        image = axes.imshow(shares, cmap=colormaps["Blues"], vmin=0.0, vmax=1.0, aspect="equal")
        labels = [_short(label) for label in matrix.labels]
        slanted = any(len(label) > 6 for label in labels) and count > 3
        ticks = range(count) if count <= 60 else range(0, count, count // 30)
        axes.set_xticks(list(ticks), [labels[i] for i in ticks], rotation=45 if slanted else 0)
        if slanted:
            for tick in axes.get_xticklabels():
                tick.set_horizontalalignment("right")
        axes.set_yticks(list(ticks), [labels[i] for i in ticks])
        if count <= _MAX_NUMBERED_CLASSES:
            for i, j in np.ndindex(count, count):
                colour = "white" if shares[i, j] > 0.55 else "#202124" if counts[i, j] else _GREY
                size = 11 if count <= 10 else 8
                axes.text(j, i, f"{int(counts[i, j]):,}", ha="center", va="center", color=colour, fontsize=size)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title(f"Confusion matrix, {rows}")
        bar = axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
        bar.set_label("share of the true class")
        bar.outline.set_visible(False)


def draw_roc(curves: Sequence[Curve], path: Path, *, rows: str) -> None:
    """ROC curves with the line of a guess."""
    with _figure(path, 6.4, 5.4) as axes:
        axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="a guess (AUC 0.500)")
        _lines(axes, [curve for curve in curves if curve.kind == ROC], "AUC")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.set_title(f"ROC, {rows}")
        _legend(axes, "lower right")


def draw_precision_recall(curves: Sequence[Curve], path: Path, *, rows: str) -> None:
    """Precision-recall curves."""
    with _figure(path, 6.4, 5.4) as axes:
        _lines(axes, [curve for curve in curves if curve.kind == PRECISION_RECALL], "AP")
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.set_title(f"Precision and recall, {rows}")
        _legend(axes, "lower left")


def draw_importances(importances: Sequence[Importance], path: Path, *, kind: str) -> None:
    """Bars, the largest on top, with their deviation over the repeats."""
    shown = list(importances[:_MAX_BARS])[::-1]
    with _figure(path, 7.2, max(2.6, 1.4 + 0.3 * len(shown))) as axes:
        deviations = [item.deviation for item in shown]
        axes.barh(
            range(len(shown)),
            [item.importance for item in shown],
            xerr=deviations if any(deviations) else None,
            color=_BLUE,
            height=0.68,
            error_kw={"ecolor": "#5f6368", "elinewidth": 1, "capsize": 2},
        )
        axes.set_yticks(range(len(shown)), [_short(item.feature) for item in shown])
        axes.axvline(0, color="#5f6368", linewidth=0.8)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("fall of the score when shuffled" if kind == "permutation" else "share of impurity removed")
        more = f" (largest {len(shown)} of {len(importances)})" if len(importances) > len(shown) else ""
        axes.set_title(f"{kind.capitalize()} importances{more}")


def draw_residuals(
    truth: npt.NDArray[np.float64], prediction: npt.NDArray[np.float64], path: Path, *, rows: str
) -> None:
    """Predicted against actual, and how the residuals are spread."""
    step = max(1, -(-len(truth) // _MAX_DOTS))
    with rc_context(_STYLE):
        figure = Figure(figsize=(10.4, 4.6), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        opacity = 0.7 if len(truth) < 500 else 0.3
        left.scatter(prediction[::step], truth[::step], s=12, color=_BLUE, alpha=opacity, linewidths=0)
        low = float(min(truth.min(), prediction.min()))
        high = float(max(truth.max(), prediction.max()))
        left.plot([low, high], [low, high], color=_RED, linewidth=1.2, label="perfect")
        left.set_xlabel("predicted")
        left.set_ylabel("actual")
        left.set_title(f"Predicted and actual, {rows}")
        _legend(left, "upper left")
        residuals = truth - prediction
        right.hist(residuals, bins=min(60, max(10, int(np.sqrt(len(residuals))))), color=_BLUE, edgecolor="white")
        right.axvline(0, color=_RED, linewidth=1.2)
        right.set_xlabel("residual (actual - predicted)")
        right.set_ylabel("rows")
        right.set_title("Residuals")
        for axes in (left, right):
            axes.grid(visible=True)
        _save(figure, path)


@contextmanager
def _figure(path: Path, width: float, height: float) -> Iterator[Axes]:
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure.add_subplot()
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a date and a version, the same data give the same bytes.
    figure.savefig(path, format="png", metadata={"Software": None})


def _lines(axes: Axes, curves: Sequence[Curve], measure: str) -> None:
    palette = colormaps["tab10" if len(curves) <= 10 else "tab20"]
    for index, curve in enumerate(curves):
        colour = _BLUE if len(curves) == 1 else palette(index % palette.N)
        label = f"{_short(curve.label)} ({measure} {curve.area:.3f})"
        axes.plot(curve.x, curve.y, color=colour, linewidth=1.8, label=label)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(visible=True)


def _legend(axes: Axes, place: Literal["lower right", "lower left", "upper left"]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) <= 8:
        axes.legend(handles, labels, loc=place)
    else:
        axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _short(text: str) -> str:
    """Names of any length and any signs fit on an axis; characters the font lacks would be empty boxes."""
    visible = "".join(sign if sign.isprintable() else "·" for sign in text)
    return visible if len(visible) <= _MAX_LABEL else visible[: _MAX_LABEL - 1] + "…"
