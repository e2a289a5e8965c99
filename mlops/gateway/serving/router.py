"""Which version answers a request: versions and aliases as they are now, and the model's traffic rule."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from mlops.errors import MlopsError
from mlops.gateway.serving.hosts import Hosts
from mlops.gateway.serving.inputs import ModelInputs
from mlops.gateway.serving.kept import Kept
from mlops.jobs.card import ModelCard
from mlops.jobs.serving import TrafficRule
from mlops.repository.repository import ModelRepository
from mlops.tenants.traffic import TrafficStore
from mlops.v1 import serving_pb2 as pb

# Together with a look-up and WARM_SECONDS below two seconds, within which all use an alias's new version.
FRESH = timedelta(milliseconds=1000)
STALE = timedelta(milliseconds=1500)
# How long the old version answers while the new one is loaded; a larger model is loaded by the first who need it.
WARM_SECONDS = 0.6
NUMBER = re.compile(r"[1-9][0-9]{0,8}\Z")

# A version's number, an alias, or None: the champion, else the newest.
Which = int | str | None

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A version that can be asked."""

    model: str
    version: int
    card: ModelCard
    inputs: ModelInputs
    staged: pb.StagedModel


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A model's traffic rule, and since when it is in force; `rule` is None where there is none."""

    rule: TrafficRule | None = None
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Route:
    """Who answers, and who else is to score the request. `since` names the rule that says so."""

    target: Target
    shadow: Which = None
    since: datetime | None = None


class Router:
    """Versions, aliases and rules of every tenant, by tenant."""

    def __init__(
        self,
        repository: ModelRepository,
        traffic: TrafficStore,
        hosts: Hosts,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._repository = repository
        self._traffic = traffic
        self._hosts = hosts
        self._chance = chance
        self._targets: Kept[tuple[str, str, Which], Target] = Kept(self._find, fresh=FRESH, stale=STALE)
        self._rules: Kept[tuple[str, str], Rule] = Kept(self._find_rule, fresh=FRESH, stale=STALE)

    async def route(self, tenant: str, model: str, which: Which, request_key: str) -> Route:
        """Who answers a request. Raises NotFound, FailedPrecondition for a model that cannot be loaded, Unavailable."""
        if which is not None:
            return Route(target=await self.target(tenant, model, which))
        found = await self._rules.get((tenant, model))
        rule = found.rule
        if rule is None:
            return Route(target=await self.target(tenant, model, None))
        share = _share(tenant, model, request_key) if request_key else self._chance()
        if rule.challenger and share < rule.challenger_share:
            return Route(target=await self.target(tenant, model, selector(rule.challenger)))
        target = await self.target(tenant, model, selector(rule.champion))
        # By chance and not by key: the key's hash is spent on the challenger's share.
        if rule.challenger and rule.shadow_share and self._chance() < rule.shadow_share:
            return Route(target=target, shadow=selector(rule.challenger), since=found.since)
        return Route(target=target)

    async def target(self, tenant: str, model: str, which: Which) -> Target:
        """A version, ready to be asked. Raises as `route`."""
        return await self._targets.get((tenant, model, which))

    async def warm(self, tenant: str, model: str, which: Which) -> Target:
        """Loads a version before anyone asks for it, as far as that is quick. Raises as `route`."""
        target = await self.target(tenant, model, which)
        await self._warm(target)
        return target

    def forget(self, tenant: str, model: str, which: Which) -> None:
        """Has the alias looked up by its next user."""
        self._targets.forget((tenant, model, which))

    def forget_rule(self, tenant: str, model: str) -> None:
        """Has the rule looked up by its next user."""
        self._rules.forget((tenant, model))

    async def _find_rule(self, key: tuple[str, str], last: Rule | None) -> Rule:
        found = await self._traffic.get(*key)
        return Rule() if found is None else Rule(rule=found.rule, since=found.shadow.since)

    async def _find(self, key: tuple[str, str, Which], last: Target | None) -> Target:
        tenant, model, which = key
        version = await self._repository.resolve(tenant, model, which)
        staged = await self._repository.stage(tenant, version)
        if last is not None and (last.version, last.staged.model_id) == (version.version, staged.model_id):
            return last
        target = Target(
            model=model,
            version=version.version,
            card=staged.card,
            inputs=ModelInputs(staged.card),
            staged=pb.StagedModel(tenant=tenant, model_id=staged.model_id, has_onnx=staged.has_onnx),
        )
        if last is not None:
            await self._warm(target)
            _log.info(
                "model_handed_over", tenant=tenant, model=model, which=which, before=last.version, now=target.version
            )
        return target

    async def _warm(self, target: Target) -> None:
        try:
            await self._hosts.warm(target.staged, WARM_SECONDS)
        except MlopsError as error:
            # Those who ask for it load it, or are told what is wrong with it.
            _log.info("model_not_warmed", tenant=target.staged.tenant, model=target.model, error=error.message)


def selector(text: str) -> Which:
    """A version or an alias as people write it: "3", "champion"; "" for None."""
    if not text:
        return None
    return int(text) if NUMBER.fullmatch(text) else text


def _share(tenant: str, model: str, request_key: str) -> float:
    """Where a key stands between 0 and 1: the same at every gateway, and another for every model."""
    digest = hashlib.blake2b(f"{tenant}\0{model}\0{request_key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
