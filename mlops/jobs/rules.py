"""What a rule of the allow-list means: whether a plain value obeys it, and how it reads."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

from mlops.jobs.allowlist import Rule, allowlist
from mlops.jobs.estimator import ParamValue
from mlops.jobs.literals import is_scalar, items_of, same

MAX_SEED = 2**32 - 1
# Dotted names without a leading underscore: coef_, named_steps.clf.coef_.
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*")
_DTYPE_NAMES = frozenset({
    "bool", "float", "float32", "float64", "int", "int8", "int16", "int32", "int64", "object", "str", "uint8",
})  # fmt: skip


def obeys(rule: Rule, value: ParamValue) -> bool:
    """Whether a value without objects in it obeys a rule. Rules about objects never hold here."""
    check = _CHECKS.get(rule["is"])
    return check is not None and check(rule, value)


def is_plain(value: ParamValue) -> bool:
    """Whether the value is made of scalars, lists, tuples and mappings only, with scalars for keys."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if one.mapping is not None:
            if not all(is_scalar(entry.key) for entry in one.mapping.entries):
                return False
            waiting += [entry.value for entry in one.mapping.entries]
        elif (items := items_of(one)) is not None:
            waiting += items
        elif not is_scalar(one):
            return False
    return True


def wording(rules: tuple[Rule, ...]) -> str:
    """What the rules allow, for a message: an int >= 1, or None."""
    texts = list(dict.fromkeys(text for rule in rules for text in _words(rule)))
    if not texts:
        return "left out"
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " or " + texts[-1]


def _interval(rule: Rule, value: ParamValue) -> bool:
    number: float | None = None if rule["of"] == "float" else value.integer
    if rule["of"] != "integer" and value.number is not None:
        number = value.number
    if number is None or math.isnan(number):
        return False
    left, right, closed = rule["left"], rule["right"], rule["closed"]
    above = left is None or (number >= left if closed in ("left", "both") else number > left)
    below = right is None or (number <= right if closed in ("right", "both") else number < right)
    # An open end without a bound leaves infinity itself out.
    ends = (left is None and closed in ("right", "neither"), right is None and closed in ("left", "neither"))
    finite = not ((ends[0] and number == -math.inf) or (ends[1] and number == math.inf))
    return above and below and finite


def _seed(_: Rule, value: ParamValue) -> bool:
    return value.none is not None or (value.integer is not None and 0 <= value.integer <= MAX_SEED)


def _missing(rule: Rule, value: ParamValue) -> bool:
    numeric = value.integer is not None or value.number is not None
    return numeric or (not rule.get("numeric_only") and (value.string is not None or value.none is not None))


def _scorer(rule: Rule, value: ParamValue) -> bool:
    if value.string is not None:
        return value.string in allowlist().scorers or value.string in rule.get("words", ())
    if not rule.get("many"):
        return False
    if value.mapping is not None:
        named = [entry.value for entry in value.mapping.entries if entry.key.string is not None]
        return len(named) == len(value.mapping.entries) > 0 and all(_scorer({}, one) for one in named)
    items = items_of(value)
    return items is not None and len(items) > 0 and all(one.string is not None and _scorer({}, one) for one in items)


def _dtype(_: Rule, value: ParamValue) -> bool:
    return value.function in allowlist().dtypes or value.string in _DTYPE_NAMES


def _dtypes(rule: Rule, value: ParamValue) -> bool:
    if (items := items_of(value)) is not None:
        return all(_dtypes(rule, item) for item in items if items_of(item) is None) and is_flat(items)
    return value.string is not None or value.function in allowlist().dtypes


def is_flat(items: tuple[ParamValue, ...]) -> bool:
    """Whether no item is a list, a tuple or a mapping."""
    return all(items_of(item) is None and item.mapping is None for item in items)


_CHECKS: dict[str, Callable[[Rule, ParamValue], bool]] = {
    "none": lambda _, value: value.none is not None,
    "boolean": lambda _, value: value.boolean is not None,
    "integer": lambda _, value: value.integer is not None,
    "real": lambda _, value: value.integer is not None or value.number is not None,
    "float": lambda _, value: value.number is not None,
    "nan": lambda _, value: value.number is not None and math.isnan(value.number),
    "string": lambda _, value: value.string is not None,
    "options": lambda rule, value: value.string in rule["options"],
    "values": lambda rule, value: any(same(ParamValue.model_validate(one), value) for one in rule["values"]),
    "interval": _interval,
    "random_state": _seed,
    "verbose": lambda _, value: value.boolean is not None or (value.integer is not None and value.integer >= 0),
    "missing": _missing,
    "mapping": lambda _, value: value.mapping is not None and is_plain(value),
    "list": lambda _, value: value.list is not None and is_plain(value),
    "tuple": lambda _, value: value.tuple is not None and is_plain(value),
    "sequence": lambda _, value: items_of(value) is not None and is_plain(value),
    "array": lambda _, value: items_of(value) is not None and is_plain(value),
    "scorer": _scorer,
    "attribute": lambda _, value: value.string is not None and _ATTRIBUTE.fullmatch(value.string) is not None,
    "dtype": _dtype,
    "dtypes": _dtypes,
    "function": lambda rule, value: value.function in rule["paths"],
    "cv": lambda _, value: value.none is not None or (value.integer is not None and value.integer >= 2),
}
_WORDS: dict[str, str] = {
    "none": "None",
    "boolean": "True or False",
    "integer": "an int",
    "real": "a number",
    "float": "a float",
    "nan": "NaN",
    "string": "a text",
    "random_state": f"an int from 0 to {MAX_SEED}",
    "verbose": "an int >= 0",
    "missing": "a marker of missing values",
    "mapping": "a dict",
    "list": "a list",
    "tuple": "a tuple",
    "sequence": "a list of values",
    "array": "a list of numbers",
    "scorer": "the name of a scorer",
    "attribute": "the name of an attribute",
    "dtype": "a dtype",
    "dtypes": "a dtype or a list of dtypes",
    "estimator": "an estimator",
    "kernel": "a Gaussian-process kernel",
    "kernels": "a list of Gaussian-process kernels",
    "grid": "a dict of parameter names to lists of values, or a list of such dicts",
}


def _words(rule: Rule) -> Iterator[str]:
    kind = rule["is"]
    if kind == "interval":
        yield _range(rule)
    elif kind == "options":
        yield from (repr(option) for option in rule["options"])
    elif kind == "values":
        yield from (repr(next(iter(value.values()))) for value in rule["values"])
    elif kind == "function":
        yield "one of " + ", ".join(rule["paths"])
    elif kind == "cv":
        yield from ("an int >= 2", "a splitter", "None")
    elif kind == "steps":
        yield "a list of (name, estimator, columns)" if rule.get("columns") else "a list of (name, estimator)"
    elif kind == "estimator" and rule["methods"] != ["fit"]:
        yield "an estimator with " + ", ".join(rule["methods"])
    else:
        yield _WORDS[kind]


def _range(rule: Rule) -> str:
    left, right, closed = rule["left"], rule["right"], rule["closed"]
    number = {"integer": "an int", "real": "a number", "float": "a float"}[rule["of"]]
    bounds = []
    if left is not None:
        bounds.append(f"{'>=' if closed in ('left', 'both') else '>'} {left:g}")
    if right is not None:
        bounds.append(f"{'<=' if closed in ('right', 'both') else '<'} {right:g}")
    return " ".join([number, " and ".join(bounds)]).strip()
