"""The allow-list as loaded from catalog.json: which classes and functions a spec may name, and what they take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from mlops.jobs.estimator import ParamValue
from mlops.jobs.literals import same

Rule = dict[str, Any]

# Kinds of entries that can be fitted.
ESTIMATOR_KINDS = frozenset({"classifier", "regressor", "transformer", "clusterer", "outlier_detector", "other"})


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a class. It may be what any one of `rules` says.

    default: a ParamValue in JSON form (building two thousand of them would take longer than all the rest), None
    where the parameter is required.
    """

    name: str
    rules: tuple[Rule, ...]
    default: dict[str, Any] | None

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is None

    def is_default(self, value: ParamValue) -> bool:
        """Whether the value is the default, in kind too."""
        if self.default is None or value.kind not in self.default:
            return False
        if value.number is not None:
            # NaN and infinity are texts in JSON.
            return same(value, ParamValue(number=float(self.default["number"])))
        return value.model_dump(mode="json") == self.default


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A class that a spec may name.

    kind: classifier, regressor, transformer, clusterer, outlier_detector, other, or what parameters hold:
    splitter, kernel, selector.
    """

    path: str
    kind: str
    params: dict[str, Parameter]
    methods: frozenset[str] = frozenset()
    # The module whose import makes an experimental class importable.
    enabled_by: str = ""
    # The parameter that holds what does the predicting; of a list of steps, the last one.
    inner: str = ""
    sample_weight: bool = False
    # The parameter that sample weights are handed on to.
    weighted_through: str = ""
    # When it gives probabilities: {param, values} or {inner}; empty where `methods` says it all.
    probabilities: Rule = field(default_factory=dict)
    random_state: bool = False
    # The boolean parameter without which random_state must stay unset.
    seeded_if: str = ""
    n_jobs: bool = False
    # What its input may be: missing values, categories, texts (and then nothing else), one column.
    allow_nan: bool = False
    categorical: bool = False
    text: bool = False
    one_dimensional: bool = False

    @property
    def is_estimator(self) -> bool:
        """Whether it can be fitted."""
        return self.kind in ESTIMATOR_KINDS

    @property
    def steps_rule(self) -> tuple[str, Rule] | None:
        """The parameter that holds named steps, and its rule."""
        for parameter in self.params.values():
            for rule in parameter.rules:
                if rule["is"] == "steps":
                    return parameter.name, rule
        return None


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A scorer of scikit-learn. A higher score is always better: of `negated` ones the metric itself is a loss."""

    name: str
    # classification, regression or clustering.
    task: str
    # The methods of which it needs one: predict, predict_proba, decision_function.
    responses: tuple[str, ...]
    negated: bool = False
    binary: bool = False
    # Two classes must be 0 and 1, -1 and 1, or booleans.
    positive_is_one: bool = False
    # {bound, inclusive}: how small a target may be.
    least_target: Rule = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Allowlist:
    """Everything that a spec may name. `scikit_learn` is the minor version it was made from."""

    scikit_learn: str
    entries: Mapping[str, Entry]
    # Import path to the reason.
    excluded: dict[str, str]
    functions: frozenset[str]
    dtypes: frozenset[str]
    scorers: dict[str, Scorer]

    def unknown(self, path: str) -> str:
        """Why a path may not be named, and the nearest one that may."""
        if path in self.excluded:
            return f"{path} is not offered: {self.excluded[path]}"
        return f"{path!r} is not on the list of allowed classes{nearest_path(path, self.entries)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The text `; did you mean 'x'?`, or nothing where nothing is near."""
    return _suggestion(name, {one: one for one in known})


def nearest_path(path: str, known: Iterable[str]) -> str:
    """As `nearest`, looking at class names first: sklearn.ensemble._forest.RandomForestClassifier has a public path."""
    return _suggestion(path.rpartition(".")[2], {one.rpartition(".")[2]: one for one in known})


def _suggestion(name: str, known: Mapping[str, str]) -> str:
    """Compared regardless of case; the name itself, in another case, is the nearest of all."""
    lowered = {one.lower(): suggestion for one, suggestion in known.items()}
    matches = get_close_matches(name[:200].lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean {lowered[matches[0]]!r}?" if matches else ""


@cache
def allowlist() -> Allowlist:
    """The allow-list of this version, read once a process."""
    data = json.loads(resources.files("mlops.jobs").joinpath("catalog.json").read_text(encoding="utf-8"))
    return Allowlist(
        scikit_learn=data["scikit_learn"],
        entries=_Entries(data["entries"]),
        excluded=data["excluded"],
        functions=frozenset(data["functions"]),
        dtypes=frozenset(data["dtypes"]),
        scorers={
            name: Scorer(name=name, **(about | {"responses": tuple(about["responses"])}))
            for name, about in data["scorers"].items()
        },
    )


class _Entries(Mapping[str, Entry]):
    """Makes an entry when it is first asked for: a submit needs a handful of two hundred and fifty."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw
        self._made: dict[str, Entry] = {}

    def __getitem__(self, path: str) -> Entry:
        made = self._made.get(path)
        if made is None:
            made = self._made[path] = _entry(path, self._raw[path])
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, path: object) -> bool:
        return path in self._raw


def _entry(path: str, raw: dict[str, Any]) -> Entry:
    about = raw["about"]
    params = {
        name: Parameter(name=name, rules=tuple(param["rules"]), default=param.get("default"))
        for name, param in raw["params"].items()
    }
    return Entry(path=path, params=params, **(about | {"methods": frozenset(about.get("methods", ()))}))
