"""Labels: what people attach to their things to find them again."""

from __future__ import annotations

import re
from collections.abc import Mapping

# `=` stands between key and value in searches.
KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
MAX_VALUE_LENGTH = 200
MAX_LABELS = 20


def check_labels(labels: Mapping[str, str], *, field: str) -> dict[str, str]:
    """What is wrong with labels, by path: `spec.labels[team]`."""
    violations: dict[str, str] = {}
    if len(labels) > MAX_LABELS:
        violations[field] = f"has {len(labels)} labels, more than the {MAX_LABELS} allowed"
    for key, value in labels.items():
        path = f"{field}[{key[:80]}]"
        if not KEY.fullmatch(key):
            violations[path] = (
                f"{key[:80]!r} is no key: 1 to 63 letters, digits, dots, slashes, hyphens and underscores, "
                "beginning and ending with a letter or a digit"
            )
        elif len(value) > MAX_VALUE_LENGTH:
            violations[path] = f"is {len(value):,} characters long, more than the {MAX_VALUE_LENGTH} allowed"
        elif not value.isprintable():
            violations[path] = "holds control characters"
    return violations
