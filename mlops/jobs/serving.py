"""Online predictions as data: how requests are shared out between versions, and what they have shown."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from mlops.jobs.value import Value


class TrafficRule(Value):
    """How requests that name no version are shared out. Versions are numbers or aliases ("3", "champion").

    champion: answers what is not the challenger's; empty for the champion, else the newest version.
    challenger: empty for none. challenger_share: of the requests, by the hash of their key. shadow_share: of the
    requests that the champion answers, those that the challenger scores too, to compare the answers.
    """

    champion: str = Field(default="", max_length=255)
    challenger: str = Field(default="", max_length=255)
    challenger_share: float = Field(default=0.0, ge=0.0, le=1.0)
    shadow_share: float = Field(default=0.0, ge=0.0, le=1.0)


class ShadowFigures(Value):
    """What shadow traffic has shown since the rule was set."""

    compared_rows: int = 0
    # Rows with another label, or with a number that differs by more than 1e-6 of its size.
    differing_rows: int = 0
    # Of the numbers compared: probabilities where there are any, else predictions.
    mean_difference: float = 0.0
    max_difference: float = 0.0
    # Requests that were not scored twice, since the platform was busy or the challenger failed.
    skipped_requests: int = 0
    since: datetime | None = None


class Traffic(Value):
    """A model's rule, and what shadow traffic has shown."""

    rule: TrafficRule = TrafficRule()
    shadow: ShadowFigures = ShadowFigures()


class VersionFigures(Value):
    """The figures of one version's predictions, of the gateway that answers, since it started."""

    version: int
    requests: int = 0
    # By status code.
    errors: dict[str, int] = Field(default_factory=dict)
    rows: int = 0
    latency_p50_ms: float = 0.0
    latency_p90_ms: float = 0.0
    latency_p99_ms: float = 0.0
    # Rows that were predicted together.
    batch_rows_mean: float = 0.0
    batch_rows_max: float = 0.0
    # Requests by engine: sklearn, onnx.
    engines: dict[str, int] = Field(default_factory=dict)


class ServingFigures(Value):
    """The figures of a model by version, the newest first."""

    versions: tuple[VersionFigures, ...] = ()
    since: datetime | None = None
