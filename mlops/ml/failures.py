"""Translates what scikit-learn and numpy raise into the errors of this package, with a hint what to try."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mlops import errors

MAX_MESSAGE = 2000


class Hint(NamedTuple):
    """Advice for messages that match a pattern; the first match counts."""

    pattern: re.Pattern[str]
    advice: str


def _hint(pattern: str, advice: str) -> Hint:
    return Hint(re.compile(pattern, re.IGNORECASE | re.DOTALL), advice)


HINTS = (
    _hint(
        r"could not convert string to float|invalid literal for|cannot use median strategy with non-numeric"
        r"|unable to convert .* to numeric|dtype='numeric' is not compatible|could not convert string",
        "A column holds text. Encode text columns with a ColumnTransformer (OneHotEncoder, OrdinalEncoder, or"
        " TfidfVectorizer for prose), leave them out of the features, or give no estimator and take the default.",
    ),
    _hint(
        r"input .*contains nan|contains nan|missing values encoded as nan",
        "Put a SimpleImputer in front of the estimator, or use HistGradientBoosting, which takes missing values.",
    ),
    _hint(
        r"contains infinity|value too large for dtype|overflow",
        "A column holds infinite or huge values. Clip them, or scale with a RobustScaler or QuantileTransformer.",
    ),
    _hint(
        r"n_splits=\d+ cannot be greater|number of splits|number of folds|n_splits .*greater|too few members"
        r"|least populated class",
        "There are too few rows of a class or a group. Use fewer folds, merge rare classes, or use the splitter 'shuffled'.",
    ),
    _hint(
        r"only one class|greater than one|number of classes|needs samples of at least 2 classes|at least 2 classes",
        "The training rows hold a single class. Check the target column, or use the splitter 'stratified'.",
    ),
    _hint(
        r"solver .*supports|unsupported set of arguments|supports only|penalty='|is not supported for",
        "These parameters do not go together. See the estimator's page in scikit-learn's documentation for what does.",
    ),
    _hint(
        r"unknown label type|classification metrics can't handle|continuous",
        "The target looks continuous. Use a regressor (task 'regression'), or bin the target into classes.",
    ),
    _hint(
        r"negative values in data|non-?negative|must be strictly positive|out of the valid range",
        "This estimator takes a limited range of values. Scale with a MinMaxScaler, or choose another estimator.",
    ),
    _hint(
        r"unexpected keyword argument 'sample_weight'|sample_weight|does not support sample",
        "This estimator takes no sample weights: leave out the weight column, or choose another estimator.",
    ),
    _hint(
        r"sparse (data|matrix|input|x) |dense data is required|sparse was passed|is sparse",
        "A step gives a sparse matrix, which the next one does not take. Set sparse_output=False on the OneHotEncoder,"
        " or sparse_threshold=0 on the ColumnTransformer.",
    ),
    _hint(
        r"n_neighbors|n_samples_fit|expected n_neighbors",
        "There are fewer training rows than neighbours. Lower n_neighbors.",
    ),
    _hint(
        r"n_components",
        "n_components must not exceed the number of features or rows that reach that step. Lower it.",
    ),
    _hint(
        r"categorical feature .* (cardinality|maximum)|max_bins|at most 255|categorical_features",
        "A categorical column has more values than HistGradientBoosting takes (255). Encode it with a TargetEncoder.",
    ),
    _hint(
        r"unknown categor",
        "Set handle_unknown='ignore' on the OneHotEncoder, or 'use_encoded_value' on the OrdinalEncoder.",
    ),
    _hint(
        r"singular matrix|did not converge|svd|linalg|positive definite",
        "The numbers are ill-conditioned. Drop columns that repeat each other, scale the data, or add regularisation.",
    ),
    _hint(
        r"parameter of .* must be|got an unexpected keyword|invalid parameter",
        "A parameter is outside what the estimator takes; the message names it and its range.",
    ),
)


def bounded(text: str, limit: int = MAX_MESSAGE) -> str:
    """The text, cut in the middle to `limit` characters: beginning and end are what tells."""
    text = text.strip()
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    return f"{text[:head]} … {text[-(limit - head - 3) :]}"


def hint_for(message: str) -> str:
    """What to try about an error of this message, or nothing."""
    return next((hint.advice for hint in HINTS if hint.pattern.search(message)), "")


def translate(error: Exception, *, step: str) -> errors.MlopsError:
    """The error of this package that stands for `error`. Ours pass, with the step's name where they have none."""
    if isinstance(error, errors.JobError):
        if error.step:
            return error
        return type(error)(error.message, **{**error.details, "step": step})
    if isinstance(error, errors.MlopsError):
        return error
    if isinstance(error, MemoryError):
        return errors.MemoryLimitExceeded(
            bounded(f"out of memory: {error}" if str(error) else "out of memory"),
            step=step,
            hint="Ask for more memory for the job, train on fewer rows or columns, or choose a smaller model.",
        )
    message = bounded(str(error)) or f"{type(error).__name__} without a message"
    return errors.FitFailed(message, error_class=type(error).__name__, step=step, hint=hint_for(message))


@contextmanager
def translated(step: str) -> Iterator[None]:
    """Whatever is raised inside leaves as an error of this package."""
    try:
        yield
    except Exception as error:
        ours = translate(error, step=step)
        if ours is error:
            raise
        raise ours from error
