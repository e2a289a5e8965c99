"""Whether a table fits a model: the one set of rules for batch jobs and online predictions.

missing     a required column that is not there is refused; one that had missing values in training is filled
            with missing values
extra       ignored
reordered   matched by name
mistyped    what loses nothing is taken (whole numbers as numbers, booleans as 0 and 1 or as "true" and "false",
            texts as categories, Unix seconds as times); everything else is refused
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mlops.jobs.card import FeatureSpec
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.value import Value

# What a feature of each kind takes.
ACCEPTED: dict[ColumnKind, frozenset[ColumnKind]] = {
    ColumnKind.NUMERIC: frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN}),
    ColumnKind.BOOLEAN: frozenset({ColumnKind.BOOLEAN}),
    ColumnKind.CATEGORICAL: frozenset({ColumnKind.CATEGORICAL, ColumnKind.TEXT, ColumnKind.BOOLEAN}),
    ColumnKind.TEXT: frozenset({ColumnKind.TEXT, ColumnKind.CATEGORICAL}),
    ColumnKind.DATETIME: frozenset({ColumnKind.DATETIME, ColumnKind.NUMERIC}),
}
# More are counted, but not named.
MAX_NAMED = 20


class Fit(Value):
    """How a table fits a model. `problems`: column to what is wrong with it; empty where it fits."""

    problems: dict[str, str]
    # Features that are not there, and are taken as missing in every row.
    filled: tuple[str, ...] = ()
    # Columns that the model does not take.
    ignored: tuple[str, ...] = ()

    def summary(self) -> str:
        """All problems in one sentence."""
        named = [f"column {name!r} {problem}" for name, problem in list(self.problems.items())[:MAX_NAMED]]
        more = len(self.problems) - len(named)
        return "; ".join(named) + (f"; and {more} more" if more > 0 else "")

    def warnings(self, *, used: Collection[str] = ()) -> tuple[str, ...]:
        """What is allowed but probably not meant; columns that have another use are not ignored."""
        ignored = [name for name in self.ignored if name not in used]
        said = []
        if self.filled:
            said.append(f"columns that are not there count as missing in every row: {_listed(self.filled)}")
        if ignored:
            said.append(f"columns that the model does not take are ignored: {_listed(ignored)}")
        return tuple(said)


def fit_columns(features: Sequence[FeatureSpec], given: Mapping[str, ColumnKind | None]) -> Fit:
    """Holds a table's columns against a model's features, by the rules of this module.

    given: the table's columns in their order, and of each what it holds; None for one without any value.
    """
    problems: dict[str, str] = {}
    filled: list[str] = []
    for feature in features:
        if feature.name not in given:
            if feature.required:
                problems[feature.name] = f"is missing: the model needs it ({feature.kind.value})"
            else:
                filled.append(feature.name)
            continue
        kind = given[feature.name]
        if kind is None:
            if feature.required:
                problems[feature.name] = "has no values: it had no missing ones when the model was trained"
        elif kind not in ACCEPTED[feature.kind]:
            problems[feature.name] = f"is {kind.value}: the model takes {feature.kind.value}"
    wanted = {feature.name for feature in features}
    return Fit(problems=problems, filled=tuple(filled), ignored=tuple(name for name in given if name not in wanted))


def _listed(columns: Sequence[str]) -> str:
    more = len(columns) - MAX_NAMED
    return ", ".join(columns[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
