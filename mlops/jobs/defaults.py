"""The estimator for whoever names none: gradient boosting, with what the columns' kinds need before it."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.jobs.dataset import Column, ColumnKind
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.literals import to_values
from mlops.jobs.training import Task

# The most categories of one column that histogram gradient boosting can tell apart.
MAX_CATEGORIES = 255
# Hashed words a text column is counted in, and the dimensions that these are reduced to.
TEXT_FEATURES = 2**14
TEXT_DIMENSIONS = 32


# Above this share of missing values a fold may have none at all of a column, which boosting cannot bin.
SPARSE = 0.5


def default_estimator(features: Sequence[Column], task: Task, *, rows: int) -> EstimatorSpec:
    """Histogram gradient boosting, which takes missing numbers as they are; `rows` is the dataset's.

    Categories become ordinals that the trees split as categories; those beyond the 255 most frequent count as one,
    and those never seen in training (-1) as missing. Each text column is hashed, weighted by inverse document frequency
    and reduced to 32 dimensions: hashing needs no vocabulary, so that a fold whose texts are all empty still fits.
    Texts must arrive as strings, a missing one as "". Numbers, booleans and datetimes (as seconds) pass unchanged,
    but for columns that are missing in most rows: these become 0, beside a column that says where they are missing.
    """
    categorical = [column.name for column in features if column.kind is ColumnKind.CATEGORICAL]
    texts = [column.name for column in features if column.kind is ColumnKind.TEXT]
    numbers = [column for column in features if column.kind not in (ColumnKind.CATEGORICAL, ColumnKind.TEXT)]
    sparse = [column.name for column in numbers if column.null_count > SPARSE * rows]
    dense = [column.name for column in numbers if column.null_count <= SPARSE * rows]
    boosting = _boosting(task, len(categorical))
    if not categorical and not texts and not sparse:
        return boosting
    transformers: list[object] = []
    # Categories come first, so that their positions behind the transformer are known.
    if categorical:
        transformers.append(("categories", _object(_ordinals()), categorical))
    if dense:
        transformers.append(("numbers", "passthrough", dense))
    if sparse:
        transformers.append(("sparse", _object(_filled()), sparse))
    transformers += [(f"text_{index}", _object(_text()), name) for index, name in enumerate(texts)]
    prepare = EstimatorSpec(
        path="sklearn.compose.ColumnTransformer",
        params=to_values({"transformers": transformers, "sparse_threshold": 0.0}),
    )
    return _pipeline(("prepare", prepare), ("boosting", boosting))


def _boosting(task: Task, categories: int) -> EstimatorSpec:
    name = "Classifier" if task is Task.CLASSIFICATION else "Regressor"
    params: dict[str, object] = {"categorical_features": list(range(categories))} if categories else {}
    return EstimatorSpec(path=f"sklearn.ensemble.HistGradientBoosting{name}", params=to_values(params))


def _ordinals() -> EstimatorSpec:
    return EstimatorSpec(
        path="sklearn.preprocessing.OrdinalEncoder",
        params=to_values(
            {
                "handle_unknown": "use_encoded_value",
                "unknown_value": -1,
                "max_categories": MAX_CATEGORIES,
            }
        ),
    )


def _filled() -> EstimatorSpec:
    return EstimatorSpec(
        path="sklearn.impute.SimpleImputer",
        params=to_values(
            {"strategy": "constant", "fill_value": 0.0, "add_indicator": True, "keep_empty_features": True}
        ),
    )


def _text() -> EstimatorSpec:
    hashing = EstimatorSpec(
        path="sklearn.feature_extraction.text.HashingVectorizer",
        params=to_values({"n_features": TEXT_FEATURES, "norm": None, "alternate_sign": False}),
    )
    weighting = EstimatorSpec(path="sklearn.feature_extraction.text.TfidfTransformer")
    reducing = EstimatorSpec(
        path="sklearn.decomposition.TruncatedSVD", params=to_values({"n_components": TEXT_DIMENSIONS})
    )
    return _pipeline(("hash", hashing), ("weigh", weighting), ("reduce", reducing))


def _pipeline(*steps: tuple[str, EstimatorSpec]) -> EstimatorSpec:
    held = [(name, _object(spec)) for name, spec in steps]
    return EstimatorSpec(path="sklearn.pipeline.Pipeline", params=to_values({"steps": held}))


def _object(spec: EstimatorSpec) -> ParamValue:
    return ParamValue(object=spec)
