from __future__ import annotations

import pickle

import pytest

from mlops import errors
from mlops.ml.failures import MAX_MESSAGE, hint_for, translate, translated


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ("could not convert string to float: 'red'", "ColumnTransformer"),
        ("Input X contains NaN.\nSVC does not accept missing values", "SimpleImputer"),
        ("Input X contains infinity or a value too large for dtype('float32').", "infinite"),
        ("n_splits=5 cannot be greater than the number of members in each class.", "fewer folds"),
        ("Solver lbfgs supports only 'l2' or None penalties, got l1 penalty.", "do not go together"),
        ("Unknown label type: continuous. Maybe you are trying to fit a classifier", "regressor"),
        ("The number of classes has to be greater than one; got 1 class", "single class"),
        ("Negative values in data passed to MultinomialNB (input X).", "MinMaxScaler"),
        ("n_components=9 must be between 1 and min(n_samples, n_features)=4", "n_components"),
        ("Expected n_neighbors <= n_samples_fit, but n_neighbors = 5", "n_neighbors"),
        ("Sparse data was passed for X, but dense data is required.", "sparse"),
        ("fit() got an unexpected keyword argument 'sample_weight'", "sample weights"),
        ("Found unknown categories ['x'] in column 0 during transform", "handle_unknown"),
    ],
)
def test_usual_failures_come_with_advice(message: str, part: str) -> None:
    error = translate(ValueError(message), step="fit")
    assert isinstance(error, errors.FitFailed)
    assert error.message == message
    assert error.error_class == "ValueError"
    assert error.step == "fit"
    assert part in error.hint
    assert pickle.loads(pickle.dumps(error)).hint == error.hint  # noqa: S301  # our own bytes


def test_an_unknown_failure_has_no_advice_but_its_message() -> None:
    assert hint_for("the moon is full") == ""


def test_a_message_of_any_length_is_bounded_and_never_empty() -> None:
    long = translate(ValueError("a" * 10_000 + "the end"), step="fit")
    assert len(long.message) <= MAX_MESSAGE
    assert long.message.endswith("the end")
    assert translate(ValueError(), step="fit").message == "ValueError without a message"


def test_running_out_of_memory_is_its_own_error() -> None:
    error = translate(MemoryError("Unable to allocate 8 GiB"), step="fold-1")
    assert isinstance(error, errors.MemoryLimitExceeded)
    assert error.step == "fold-1"
    assert "more memory" in error.hint


def test_our_own_errors_pass_and_learn_their_step() -> None:
    with pytest.raises(errors.DataInvalid) as caught, translated("fold-2"):
        raise errors.DataInvalid("no", hint="yes")
    assert (caught.value.step, caught.value.hint, caught.value.message) == ("fold-2", "yes", "no")
    with pytest.raises(errors.InvalidRequest), translated("fit"):
        raise errors.InvalidRequest.of("spec", "wrong")
    with pytest.raises(KeyboardInterrupt), translated("fit"):
        raise KeyboardInterrupt


def test_the_original_error_stays_the_cause() -> None:
    with pytest.raises(errors.FitFailed) as caught, translated("fit"):
        raise ZeroDivisionError("division by zero")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
