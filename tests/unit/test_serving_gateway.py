"""The parts of online predictions at the gateway, each by itself: routes, limits, figures, comparisons."""

from __future__ import annotations

from array import array
from datetime import UTC, datetime
from typing import cast

import pytest

from mlops.errors import NotFound, QuotaExceeded
from mlops.gateway.serving.figures import GROWTH, Figures, Tally
from mlops.gateway.serving.hosts import Hosts
from mlops.gateway.serving.router import Router, selector
from mlops.gateway.serving.shadow import Seen, compare
from mlops.gateway.serving.throttle import Throttle
from mlops.jobs.card import Engine, LabelType, ModelCard
from mlops.jobs.model import ModelVersion
from mlops.jobs.serving import ShadowFigures, Traffic, TrafficRule
from mlops.jobs.training import Task
from mlops.repository.repository import ModelRepository, StagedModel
from mlops.tenants.store import TenantStore
from mlops.tenants.tenant import Quota
from mlops.tenants.traffic import TrafficStore
from mlops.v1 import models_pb2
from mlops.v1 import serving_pb2 as pb

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CARD = ModelCard(task=Task.REGRESSION, target="t", features=(), label_type=LabelType.DOUBLE)


class Registered:
    """A repository with versions 1 to 3, of which the champion is 2; and a rule."""

    def __init__(self, rule: TrafficRule | None = None) -> None:
        self.aliases: dict[str | None, int] = {None: 2, "champion": 2, "candidate": 3}
        self.rule = rule
        self.warmed: list[str] = []

    async def resolve(self, tenant: str, name: str, which: int | str | None) -> ModelVersion:
        number = which if isinstance(which, int) else self.aliases.get(which, 0)
        if not 1 <= number <= 3:
            raise NotFound.of("model version", f"{name}@{which}")
        lineage = dict.fromkeys(("job_id", "run_id", "owner", "dataset_id", "dataset_sha256", "estimator", "task"), "")
        return ModelVersion(model_name=name, version=number, created_at=NOW, **lineage)

    async def stage(self, tenant: str, version: ModelVersion) -> StagedModel:
        return StagedModel(model_id=f"m-{version.version:032x}", card=CARD, has_onnx=False)

    async def get(self, tenant: str, model: str) -> Traffic | None:
        return None if self.rule is None else Traffic(rule=self.rule, shadow=ShadowFigures(since=NOW))

    async def warm(self, model: pb.StagedModel, seconds: float) -> None:
        self.warmed.append(model.model_id)


def router(registered: Registered, chance: float = 0.5) -> Router:
    return Router(
        cast("ModelRepository", registered),
        cast("TrafficStore", registered),
        cast("Hosts", registered),
        chance=lambda: chance,
    )


async def version(found: Router, which: int | str | None = None, key: str = "") -> int:
    return (await found.route("acme", "churn", which, key)).target.version


async def test_without_a_rule_the_champion_answers_and_a_version_or_an_alias_by_itself() -> None:
    found = router(Registered())
    assert [await version(found), await version(found, 1), await version(found, "candidate")] == [2, 1, 3]
    with pytest.raises(NotFound):
        await version(found, "nobody")


async def test_requests_that_name_a_version_do_not_follow_the_rule() -> None:
    found = router(Registered(TrafficRule(challenger="3", challenger_share=1.0)))
    assert [await version(found), await version(found, 1), await version(found, "champion")] == [3, 1, 2]


async def test_a_key_decides_alike_at_every_gateway_and_about_as_often_as_the_share_says() -> None:
    rule = TrafficRule(challenger="candidate", challenger_share=0.2)
    one, other = router(Registered(rule), chance=0.0), router(Registered(rule), chance=1.0)
    keys = [f"customer-{index}" for index in range(1000)]
    chosen = [await version(one, key=key) for key in keys]
    assert [await version(other, key=key) for key in keys] == chosen
    assert 150 < chosen.count(3) < 250
    assert [await version(one), await version(other)] == [3, 2]


async def test_a_larger_share_keeps_those_that_the_challenger_had_already() -> None:
    keys = [f"customer-{index}" for index in range(300)]
    chosen = []
    for share in (0.2, 0.4):
        found = router(Registered(TrafficRule(challenger="3", challenger_share=share)))
        chosen.append({key for key in keys if await version(found, key=key) == 3})
    assert chosen[0] < chosen[1]


async def test_a_shadow_scores_what_the_champion_answers() -> None:
    found = router(Registered(TrafficRule(champion="1", challenger="3", shadow_share=0.6)))
    route = await found.route("acme", "churn", None, "")
    assert (route.target.version, route.shadow, route.since) == (1, 3, NOW)
    unlucky = router(Registered(TrafficRule(challenger="3", shadow_share=0.4)))
    assert (await unlucky.route("acme", "churn", None, "")).shadow is None


def test_a_selector_is_a_number_an_alias_or_nothing() -> None:
    assert [selector(text) for text in ("", "3", "champion", "03", "0", "v1")] == [None, 3, "champion", "03", "0", "v1"]


def test_a_rate_refills_with_time_and_says_when() -> None:
    now = [0.0]
    throttle = Throttle(cast("TenantStore", None), clock=lambda: now[0])
    quota = Quota(max_predictions_per_second=10)

    def admit(tenant: str = "acme") -> None:
        with throttle.admitted(tenant, quota):
            pass

    for _ in range(10):
        admit()
    with pytest.raises(QuotaExceeded) as caught:
        admit()
    assert caught.value.limit == "max_predictions_per_second"
    assert caught.value.retry_after_seconds == pytest.approx(0.1)
    admit("globex")
    now[0] += 0.11
    admit()
    with pytest.raises(QuotaExceeded):
        admit()


def test_a_number_at_a_time_is_freed_by_success_and_failure_alike() -> None:
    throttle = Throttle(cast("TenantStore", None))
    quota = Quota(max_concurrent_predictions=1)
    for error in (None, ValueError()):
        try:
            with throttle.admitted("acme", quota):
                with pytest.raises(QuotaExceeded) as caught, throttle.admitted("acme", quota):
                    raise AssertionError
                assert caught.value.limit == "max_concurrent_predictions"
                if error is not None:
                    raise error
        except ValueError:
            pass
    with throttle.admitted("acme", quota):
        pass


def test_quantiles_are_bounds_that_are_off_by_a_tenth_at_most() -> None:
    tally = Tally()
    for milliseconds in range(1, 1001):
        tally.answered(rows=1, seconds=milliseconds / 1000, batch_rows=2, engine=Engine.ONNX)
    for share, exact in ((0.5, 500), (0.9, 900), (0.99, 990)):
        assert exact <= tally.quantile_ms(share) <= exact * GROWTH
    assert Tally().quantile_ms(0.5) == 0.0
    tally.answered(rows=1, seconds=1e9, batch_rows=1, engine=Engine.ONNX)
    assert tally.figures(1).requests == 1001


def test_figures_are_by_tenant_and_model_the_newest_version_first() -> None:
    figures = Figures(lambda: NOW)
    figures.of("acme", "churn", 1).failed("NOT_FOUND")
    figures.of("acme", "churn", 2).answered(rows=3, seconds=0.002, batch_rows=9, engine=Engine.SKLEARN)
    shown = figures.show("acme", "churn")
    assert [one.version for one in shown.versions] == [2, 1]
    assert (shown.versions[0].batch_rows_mean, shown.versions[0].engines) == (9.0, {"sklearn": 1})
    assert shown.versions[1].errors == {"NOT_FOUND": 1}
    assert figures.show("globex", "churn").versions == ()


def outputs(labels: list[int], probabilities: list[float] | None = None) -> pb.Outputs:
    found = pb.Outputs()
    found.outputs.add(method=models_pb2.PREDICT_METHOD_PREDICT, integers=array("q", labels).tobytes())
    if probabilities is not None:
        found.outputs.add(
            method=models_pb2.PREDICT_METHOD_PREDICT_PROBA, columns=2, numbers=array("d", probabilities).tobytes()
        )
    return found


def test_answers_are_compared_by_label_and_by_probability() -> None:
    seen = Seen()
    compare(outputs([0, 1], [0.9, 0.1, 0.2, 0.8]), outputs([0, 0], [0.9, 0.1, 0.6, 0.4]), seen)
    assert (seen.compared_rows, seen.differing_rows) == (2, 1)
    assert seen.total_difference == pytest.approx(0.4)
    assert seen.max_difference == pytest.approx(0.4)
    compare(outputs([0, 1]), outputs([0, 1]), seen)
    assert (seen.compared_rows, seen.differing_rows) == (4, 1)


def test_numbers_that_differ_by_less_than_a_millionth_are_the_same() -> None:
    def prediction(*values: float) -> pb.Outputs:
        found = pb.Outputs()
        found.outputs.add(method=models_pb2.PREDICT_METHOD_PREDICT, numbers=array("d", values).tobytes())
        return found

    seen = Seen()
    compare(prediction(1e6, 2.0), prediction(1e6 + 0.5, 3.0), seen)
    assert (seen.compared_rows, seen.differing_rows, seen.max_difference) == (2, 1, 1.0)
