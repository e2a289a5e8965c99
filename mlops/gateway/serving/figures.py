"""What the predictions of this gateway have come to, by tenant, model and version."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from cachetools import LRUCache

from mlops.jobs.card import Engine
from mlops.jobs.serving import ServingFigures, VersionFigures

# Buckets of latency: the first ends at 0.05 ms, each next one a tenth later, the last at about a minute and a half.
FIRST_MS = 0.05
GROWTH = 1.1
BUCKETS = 152
_LOG_GROWTH = math.log(GROWTH)
# Models whose figures are kept, and versions of each: the least recently used go.
MODELS = 10_000
VERSIONS = 100


@dataclass(kw_only=True)
class Tally:
    """The figures of one version."""

    requests: int = 0
    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    engines: Counter[str] = field(default_factory=Counter)
    batch_rows: int = 0
    batch_rows_max: int = 0
    # Of answered requests, by latency.
    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def answered(self, *, rows: int, seconds: float, batch_rows: int, engine: Engine) -> None:
        """One more request was answered."""
        self.requests += 1
        self.rows += rows
        self.batch_rows += batch_rows
        self.batch_rows_max = max(self.batch_rows_max, batch_rows)
        self.engines[engine.value] += 1
        self.buckets[_bucket(seconds * 1000)] += 1

    def failed(self, code: str) -> None:
        """One more request failed."""
        self.requests += 1
        self.errors[code] += 1

    def quantile_ms(self, share: float) -> float:
        """A bound that this share of the answered requests stayed within; 0 where there are none."""
        wanted = share * sum(self.buckets)
        seen = 0
        for index, count in enumerate(self.buckets):
            seen += count
            if count and seen >= wanted:
                return FIRST_MS * GROWTH**index
        return 0.0

    def figures(self, version: int) -> VersionFigures:
        """As they are told."""
        answered = sum(self.buckets)
        return VersionFigures(
            version=version,
            requests=self.requests,
            errors=dict(self.errors),
            rows=self.rows,
            latency_p50_ms=self.quantile_ms(0.50),
            latency_p90_ms=self.quantile_ms(0.90),
            latency_p99_ms=self.quantile_ms(0.99),
            batch_rows_mean=self.batch_rows / answered if answered else 0.0,
            batch_rows_max=float(self.batch_rows_max),
            engines=dict(self.engines),
        )


class Figures:
    """The tallies of this gateway since it started."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._since = clock()
        self._models: LRUCache[tuple[str, str], LRUCache[int, Tally]] = LRUCache(MODELS)

    def of(self, tenant: str, model: str, version: int) -> Tally:
        """The tally of a version."""
        versions = self._models.get((tenant, model))
        if versions is None:
            versions = self._models[tenant, model] = LRUCache(VERSIONS)
        tally = versions.get(version)
        if tally is None:
            tally = versions[version] = Tally()
        return tally

    def show(self, tenant: str, model: str) -> ServingFigures:
        """The figures of a model, the newest version first."""
        tallies = dict(self._models.get((tenant, model), {}))
        shown = tuple(tallies[version].figures(version) for version in sorted(tallies, reverse=True))
        return ServingFigures(versions=shown, since=self._since)


def _bucket(milliseconds: float) -> int:
    if milliseconds <= FIRST_MS:
        return 0
    return min(math.ceil(math.log(milliseconds / FIRST_MS) / _LOG_GROWTH), BUCKETS - 1)
