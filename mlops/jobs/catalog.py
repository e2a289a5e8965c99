"""Checks a spec against the allow-list, without scikit-learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlops.jobs.allowlist import ESTIMATOR_KINDS, Parameter, Rule, allowlist, nearest
from mlops.jobs.estimator import MAX_ESTIMATOR_BYTES, MAX_ESTIMATOR_DEPTH, EstimatorSpec, ParamValue
from mlops.jobs.literals import describe, items_of
from mlops.jobs.rules import is_flat, is_plain, obeys, wording

# Enough for a person; a spec with more mistakes than this is mended step by step.
MAX_VIOLATIONS = 50
# Values looked at in one spec. Searches multiply (values to try by estimators to try them on), so that a small
# spec could keep a gateway busy for long; this many take about a quarter of a second.
MAX_CHECKS = 50_000


def check_estimator(spec: EstimatorSpec, *, field: str) -> dict[str, str]:
    """What is wrong with a spec, by the field's path below `field`; empty where nothing is.

    Paths look like spec.estimator.params[steps][0][1].params[C].
    """
    if too_deep(spec):
        return {field: f"is nested deeper than {MAX_ESTIMATOR_DEPTH} levels"}
    size = len(spec.model_dump_json())
    if size > MAX_ESTIMATOR_BYTES:
        return {field: f"takes {size:,} bytes as JSON, more than the {MAX_ESTIMATOR_BYTES:,} allowed"}
    check = _Check()
    check.spec(spec, field, _estimator_slot(("fit",)))
    if check.checks > MAX_CHECKS:
        check.violations[field] = "has too many values to check; let its searches try fewer"
    return check.violations


def too_deep(spec: EstimatorSpec) -> bool:
    """Whether estimators are nested in each other, or lists and mappings in one parameter, too deep."""
    waiting: list[tuple[ParamValue | EstimatorSpec, int, int]] = [(spec, 1, 0)]
    while waiting:
        one, objects, values = waiting.pop()
        if objects > MAX_ESTIMATOR_DEPTH or values > MAX_ESTIMATOR_DEPTH:
            return True
        if isinstance(one, EstimatorSpec):
            waiting += [(value, objects, 1) for value in one.params.values()]
        elif one.object is not None:
            waiting.append((one.object, objects + 1, 0))
        elif one.mapping is not None:
            waiting += [(entry.value, objects, values + 1) for entry in one.mapping.entries]
            waiting += [(entry.key, objects, values + 1) for entry in one.mapping.entries]
        else:
            waiting += [(item, objects, values + 1) for item in items_of(one) or ()]
    return False


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """What an object is needed for."""

    kinds: frozenset[str]
    methods: tuple[str, ...] = ()
    wanted: str


# An object that a key of a grid sets something on, what it sets (a parameter or a step), methods a step needs.
_Target = tuple[EstimatorSpec, Parameter | Rule, tuple[str, ...]]

_KERNEL = _Slot(kinds=frozenset({"kernel"}), wanted="a Gaussian-process kernel")
_SPLITTER = _Slot(kinds=frozenset({"splitter"}), wanted="a splitter")
_SELECTOR = _Slot(kinds=frozenset({"selector"}), wanted="a column selector")


def _estimator_slot(methods: Iterable[str]) -> _Slot:
    needed = tuple(methods)
    wanted = "an estimator" + (f" with {', '.join(needed)}" if needed else "")
    return _Slot(kinds=ESTIMATOR_KINDS, methods=needed, wanted=wanted)


class _Check:
    """One pass over a spec, gathering what is wrong."""

    def __init__(self) -> None:
        self.allowed = allowlist()
        self.violations: dict[str, str] = {}
        self.checks = 0
        self._steps: dict[int, dict[str, ParamValue]] = {}

    def goes_on(self, cost: int = 1) -> bool:
        """Counts work, and says whether there is room for more of it."""
        self.checks += cost
        return self.checks <= MAX_CHECKS and len(self.violations) < MAX_VIOLATIONS

    def wrong(self, path: str, problem: str) -> None:
        self.violations.setdefault(path, problem)

    def spec(self, spec: EstimatorSpec, path: str, *slots: _Slot) -> None:
        entry = self.allowed.entries.get(spec.path)
        if entry is None:
            self.wrong(f"{path}.path", self.allowed.unknown(spec.path))
            return
        if not any(entry.kind in slot.kinds and entry.methods.issuperset(slot.methods) for slot in slots):
            wanted = " or ".join(dict.fromkeys(slot.wanted for slot in slots))
            self.wrong(path, f"{spec.path} is a {entry.kind.replace('_', ' ')}, but {wanted} is needed here")
        for name, value in spec.params.items():
            if not self.goes_on():
                return
            where = f"{path}.params[{name[:80]}]"
            parameter = entry.params.get(name)
            if parameter is None:
                self.wrong(where, f"{spec.path} has no parameter {name[:80]!r}{nearest(name, entry.params)}")
            else:
                self.parameter(parameter, value, where, spec)
        for name, parameter in entry.params.items():
            if parameter.required and name not in spec.params:
                self.wrong(f"{path}.params[{name}]", f"{spec.path} needs it: {wording(parameter.rules)}")

    def parameter(self, parameter: Parameter, value: ParamValue, path: str, owner: EstimatorSpec) -> None:
        if not self.goes_on():
            return
        if parameter.is_default(value) or any(obeys(rule, value) for rule in parameter.rules):
            return
        kinds = {rule["is"]: rule for rule in parameter.rules}
        if value.object is not None and (slots := _slots(parameter.rules)):
            self.spec(value.object, path, *slots)
        elif "steps" in kinds:
            self.steps(kinds["steps"], value, path, owner)
        elif "grid" in kinds:
            self.grids(kinds["grid"], value, path, owner)
        elif "kernels" in kinds and items_of(value):
            for index, item in enumerate(items_of(value) or ()):
                self.one_object(item, f"{path}[{index}]", _KERNEL)
        else:
            hint = nearest(value.string, kinds["options"]["options"]) if value.string and "options" in kinds else ""
            if "scorer" in kinds and value.string:
                hint = nearest(value.string, self.allowed.scorers)
            self.wrong(path, f"is {describe(value)}, but must be {wording(parameter.rules)}{hint}{_why(kinds, value)}")

    def one_object(self, value: ParamValue, path: str, *slots: _Slot) -> None:
        if value.object is not None:
            self.spec(value.object, path, *slots)
        else:
            self.wrong(path, f"is {describe(value)}, but must be {' or '.join(slot.wanted for slot in slots)}")

    # --- named steps -----------------------------------------------------------------------------

    def steps(self, rule: Rule, value: ParamValue, path: str, owner: EstimatorSpec) -> None:
        steps = items_of(value)
        width = 3 if rule.get("columns") else 2
        if not steps:
            self.wrong(path, f"is {describe(value)}, but must be {wording((rule,))}, with at least one step")
            return
        taken: set[str] = set(self.allowed.entries[owner.path].params)
        for index, step in enumerate(steps):
            if not self.goes_on():
                return
            parts = items_of(step)
            where = f"{path}[{index}]"
            if parts is None or len(parts) != width:
                self.wrong(where, f"is {describe(step)}, but must be a tuple of {width} items, a name first")
                continue
            self.step_name(parts[0], f"{where}[0]", taken)
            last = index == len(steps) - 1 and not rule.get("last")
            methods = ("fit",) if last or not rule["inner"] else ("fit", *rule["inner"])
            self.step(rule, parts[1], f"{where}[1]", methods)
            if width == 3:
                self.columns(parts[2], f"{where}[2]")

    def step_name(self, value: ParamValue, path: str, taken: set[str]) -> None:
        name = value.string
        if not name or "__" in name or name in taken:
            self.wrong(path, f"is {describe(value)}, but must be a name that is not taken, without two underscores")
        else:
            taken.add(name)

    def step(self, rule: Rule, value: ParamValue, path: str, methods: tuple[str, ...]) -> None:
        if value.string in rule["words"]:
            return
        if value.object is not None:
            self.spec(value.object, path, _estimator_slot(methods))
        else:
            words = " or ".join(repr(word) for word in rule["words"])
            self.wrong(path, f"is {describe(value)}, but must be an estimator or {words}")

    def columns(self, value: ParamValue, path: str) -> None:
        items = items_of(value)
        if value.object is not None:
            self.spec(value.object, path, _SELECTOR)
        elif items is not None:
            if len({item.kind for item in items}) > 1 or not is_flat(items) or not is_plain(value):
                self.wrong(path, "must be names, positions or booleans, all of one kind")
        elif value.string is None and value.integer is None:
            self.wrong(path, f"is {describe(value)}, but must be names or positions of columns, or a column selector")

    # --- grids of a search -----------------------------------------------------------------------

    def grids(self, rule: Rule, value: ParamValue, path: str, owner: EstimatorSpec) -> None:
        listed = items_of(value)
        for index, one in enumerate([value] if listed is None else listed):
            where = path if listed is None else f"{path}[{index}]"
            if one.mapping is None or not one.mapping.entries:
                self.wrong(where, f"is {describe(one)}, but must be {wording((rule,))}")
                continue
            grid = {entry.key.string or "": entry.value for entry in one.mapping.entries}
            searched = owner.params.get("estimator")
            for key, values in grid.items():
                if not self.goes_on():
                    return
                root = None if searched is None else searched.object
                self.grid_key(key, values, f"{where}[{key[:80]}]", grid, root)
        if listed is not None and not listed:
            self.wrong(path, "is empty: there is nothing to search")

    def grid_key(
        self,
        key: str,
        values: ParamValue,
        path: str,
        grid: dict[str, ParamValue],
        searched: EstimatorSpec | None,
    ) -> None:
        head, _, last = key.rpartition("__")
        owners = [] if searched is None else self.held(searched, head, grid)
        targets = self.targets(owners, last)
        if not targets:
            known = {name for owner in owners for name in self.settable(owner)}
            self.wrong(path, f"the estimator searched has no parameter {key[:200]!r}{nearest(last, known)}")
            return
        if last == "n_jobs":
            self.wrong(path, "cannot be searched: a job's resources.cpus say how many cores it uses")
            return
        items = items_of(values)
        if not items:
            self.wrong(path, f"is {describe(values)}, but must be a list of values to try")
            return
        for owner, target, methods in targets:
            for index, item in enumerate(items):
                if isinstance(target, Parameter):
                    self.parameter(target, item, f"{path}[{index}]", owner)
                else:
                    self.step(target, item, f"{path}[{index}]", methods)

    def held(self, searched: EstimatorSpec, route: str, grid: dict[str, ParamValue]) -> list[EstimatorSpec]:
        """Every object that may stand at a route (`clf__base`) once a search set its other keys."""
        if not route:
            return [searched]
        head, _, last = route.rpartition("__")
        found: list[EstimatorSpec] = []
        for owner in self.held(searched, head, grid):
            value = owner.params.get(last) or self.steps_by_name(owner).get(last)
            if value is not None and value.object is not None:
                found.append(value.object)
        tried = grid.get(route)
        if tried is not None:
            found += [item.object for item in items_of(tried) or () if item.object is not None]
        return found if self.goes_on(len(found)) else []

    def targets(self, owners: list[EstimatorSpec], name: str) -> list[_Target]:
        """What a key of a grid sets on the objects: one for each of their classes, where that is enough."""
        found: dict[tuple[object, ...], _Target] = {}
        for owner in owners:
            entry = self.allowed.entries.get(owner.path)
            if entry is None:
                continue
            if (parameter := entry.params.get(name)) is not None:
                searches = any(rule["is"] == "grid" for rule in parameter.rules)
                found[owner.path, id(owner) if searches else 0] = owner, parameter, ()
            elif (rule := entry.steps_rule) is not None and name in (names := [*self.steps_by_name(owner)]):
                last = name == names[-1] and not rule[1].get("last")
                methods = ("fit",) if last else ("fit", *rule[1]["inner"])
                found[owner.path, methods] = owner, rule[1], methods
        return list(found.values())

    def steps_by_name(self, owner: EstimatorSpec) -> dict[str, ParamValue]:
        if id(owner) not in self._steps:
            self._steps[id(owner)] = dict(steps_of(owner))
        return self._steps[id(owner)]

    def settable(self, owner: EstimatorSpec) -> set[str]:
        entry = self.allowed.entries.get(owner.path)
        return set(entry.params if entry else ()) | set(self.steps_by_name(owner))


def steps_of(spec: EstimatorSpec) -> list[tuple[str, ParamValue]]:
    """The named steps of a pipeline, a union, a column transformer or an ensemble; empty for anything else."""
    entry = allowlist().entries.get(spec.path)
    rule = entry.steps_rule if entry else None
    if rule is None or (value := spec.params.get(rule[0])) is None:
        return []
    parts = [items_of(step) or () for step in items_of(value) or ()]
    return [(part[0].string, part[1]) for part in parts if len(part) > 1 and part[0].string is not None]


def _slots(rules: tuple[Rule, ...]) -> list[_Slot]:
    slots = []
    for rule in rules:
        if rule["is"] == "estimator":
            slots.append(_estimator_slot(rule["methods"]))
        elif rule["is"] == "kernel":
            slots.append(_KERNEL)
        elif rule["is"] == "cv":
            slots.append(_SPLITTER)
    return slots


def _why(kinds: dict[str, Rule], value: ParamValue) -> str:
    if value.function is not None and "function" not in kinds:
        return " (functions are taken only where scikit-learn has one of its own to offer)"
    if "cv" in kinds and items_of(value) is not None:
        return " (lists of row numbers are not taken, since rows are kept apart by the platform)"
    return ""
