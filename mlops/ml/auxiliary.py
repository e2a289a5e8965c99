"""What estimators' parameters may hold besides estimators: splitters, kernels, column selectors.

scikit-learn declares no constraints for these, so theirs stand here. scipy's distributions are left out: a stored
one holds a text that scipy runs as code when it is loaded.
"""

from __future__ import annotations

from typing import Any

from mlops.jobs.literals import to_json
from mlops.ml.constraints import Rule

_BOOLEAN: list[Rule] = [{"is": "boolean"}]
_SEED: list[Rule] = [{"is": "random_state"}]
_REAL: list[Rule] = [{"is": "real"}]
_KERNEL: list[Rule] = [{"is": "kernel"}]
_POSITIVE: Rule = {"is": "interval", "of": "real", "left": 0, "right": None, "closed": "neither"}
_BOUNDS: list[Rule] = [{"is": "options", "options": ["fixed"]}, {"is": "tuple"}, {"is": "sequence"}]
_SCALES: list[Rule] = [_POSITIVE, {"is": "sequence"}]
_METRICS = (
    "additive_chi2", "chi2", "cosine", "laplacian", "linear", "poly", "polynomial", "rbf", "sigmoid",
)  # fmt: skip


def _from(least: int, *, none: bool = False) -> list[Rule]:
    rule: Rule = {"is": "interval", "of": "integer", "left": least, "right": None, "closed": "left"}
    return [rule, {"is": "none"}] if none else [rule]


_SHARE: list[Rule] = [
    {"is": "interval", "of": "float", "left": 0, "right": 1, "closed": "neither"},
    *_from(1, none=True),
]


def _entry(kind: str, **parameters: tuple[list[Rule], object] | list[Rule]) -> dict[str, Any]:
    """A parameter is its rules and its default, or its rules alone where it is required."""
    params: dict[str, Any] = {}
    for name, given in parameters.items():
        if isinstance(given, list):
            params[name] = {"rules": given}
        else:
            params[name] = {"default": to_json(given[1]), "rules": given[0]}
    entry: dict[str, Any] = {"kind": kind}
    if kind == "splitter":
        entry["methods"] = ["get_n_splits", "split"]
    if "random_state" in parameters:
        entry["random_state"] = True
    return entry | {"params": params}


def _folds() -> dict[str, Any]:
    entry = _entry("splitter", n_splits=(_from(2), 5), shuffle=(_BOOLEAN, False), random_state=(_SEED, None))
    # A seed without shuffling is an error there.
    return entry | {"seeded_if": "shuffle"}


def _repeated() -> dict[str, Any]:
    return _entry("splitter", n_splits=(_from(2), 5), n_repeats=(_from(1), 10), random_state=(_SEED, None))


def _shuffled() -> dict[str, Any]:
    return _entry(
        "splitter",
        n_splits=(_from(1), 10),
        test_size=(_SHARE, None),
        train_size=(_SHARE, None),
        random_state=(_SEED, None),
    )


_SPLITTERS = {
    "KFold": _folds(),
    "StratifiedKFold": _folds(),
    "RepeatedKFold": _repeated(),
    "RepeatedStratifiedKFold": _repeated(),
    "ShuffleSplit": _shuffled(),
    "StratifiedShuffleSplit": _shuffled(),
    "TimeSeriesSplit": _entry(
        "splitter",
        n_splits=(_from(2), 5),
        max_train_size=(_from(1, none=True), None),
        test_size=(_from(1, none=True), None),
        gap=(_from(0), 0),
    ),
    "LeaveOneOut": _entry("splitter"),
    "LeavePOut": _entry("splitter", p=_from(1)),
    "PredefinedSplit": _entry("splitter", test_fold=[{"is": "sequence"}]),
}
_DEFAULT_BOUNDS = (_BOUNDS, (1e-5, 1e5))
_KERNELS = {
    "CompoundKernel": _entry("kernel", kernels=[{"is": "kernels"}]),
    "ConstantKernel": _entry("kernel", constant_value=([_POSITIVE], 1.0), constant_value_bounds=_DEFAULT_BOUNDS),
    "DotProduct": _entry(
        "kernel",
        sigma_0=([{"is": "interval", "of": "real", "left": 0, "right": None, "closed": "left"}], 1.0),
        sigma_0_bounds=_DEFAULT_BOUNDS,
    ),
    "ExpSineSquared": _entry(
        "kernel",
        length_scale=([_POSITIVE], 1.0),
        periodicity=([_POSITIVE], 1.0),
        length_scale_bounds=_DEFAULT_BOUNDS,
        periodicity_bounds=_DEFAULT_BOUNDS,
    ),
    "Exponentiation": _entry("kernel", kernel=_KERNEL, exponent=_REAL),
    "Matern": _entry("kernel", length_scale=(_SCALES, 1.0), length_scale_bounds=_DEFAULT_BOUNDS, nu=([_POSITIVE], 1.5)),
    "PairwiseKernel": _entry(
        "kernel",
        gamma=([_POSITIVE], 1.0),
        gamma_bounds=_DEFAULT_BOUNDS,
        metric=([{"is": "options", "options": list(_METRICS)}], "linear"),
        pairwise_kernels_kwargs=([{"is": "mapping"}, {"is": "none"}], None),
    ),
    "Product": _entry("kernel", k1=_KERNEL, k2=_KERNEL),
    "RBF": _entry("kernel", length_scale=(_SCALES, 1.0), length_scale_bounds=_DEFAULT_BOUNDS),
    "RationalQuadratic": _entry(
        "kernel",
        length_scale=([_POSITIVE], 1.0),
        alpha=([_POSITIVE], 1.0),
        length_scale_bounds=_DEFAULT_BOUNDS,
        alpha_bounds=_DEFAULT_BOUNDS,
    ),
    "Sum": _entry("kernel", k1=_KERNEL, k2=_KERNEL),
    "WhiteKernel": _entry("kernel", noise_level=([_POSITIVE], 1.0), noise_level_bounds=_DEFAULT_BOUNDS),
}
_SELECTOR = _entry(
    "selector",
    pattern=([{"is": "string"}, {"is": "none"}], None),
    dtype_include=([{"is": "dtypes"}, {"is": "none"}], None),
    dtype_exclude=([{"is": "dtypes"}, {"is": "none"}], None),
)

# Import path to entry, as in catalog.json.
AUXILIARY: dict[str, dict[str, Any]] = (
    {f"sklearn.model_selection.{name}": entry for name, entry in _SPLITTERS.items()}
    | {f"sklearn.gaussian_process.kernels.{name}": entry for name, entry in _KERNELS.items()}
    | {"sklearn.compose.make_column_selector": _SELECTOR}
)
