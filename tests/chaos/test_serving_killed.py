"""Children and serving hosts are killed under load: what it costs, and that it goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from mlops.errors import MlopsError
from mlops.v1 import models_pb2
from mlops.wire.status import from_rpc_error
from tests.fixtures.serving import OnlineGateway, RunningHost, predict_request, running_online, wait_until

ROWS = pd.DataFrame(np.random.default_rng(1).normal(size=(100, 4)), columns=list("abcd"))
CLIENTS = 8


@dataclass
class Load:
    """Clients that predict without a pause."""

    answered: int = 0
    errors: list[MlopsError] = field(default_factory=list)
    wrong: int = 0

    def has_answered(self, more_than: int) -> bool:
        return self.answered > more_than


@contextmanager
def load(online: OnlineGateway, tenant: str, model: Any) -> Iterator[Load]:
    seen, stop, lock = Load(), threading.Event(), threading.Lock()
    caller = online.caller(tenant)

    def ask(number: int) -> None:
        rows = ROWS.iloc[[number]]
        request, expected = predict_request("m", rows), model.predict(rows)[0]
        while not stop.is_set():
            try:
                response: models_pb2.PredictResponse = caller.models("Predict", request)
            except grpc.RpcError as error:
                with lock:
                    seen.errors.append(from_rpc_error(error))
                continue
            with lock:
                seen.answered += 1
                seen.wrong += response.predictions.columns[0].integers.values[0] != expected

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not seen.wrong


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OnlineGateway, list[RunningHost]]]:
    """A gateway with two serving hosts."""
    with running_online(tmp_path_factory.mktemp("pair"), hosts=2) as (gateway, hosts):
        yield OnlineGateway(gateway, hosts[0]), list(hosts)


@pytest.fixture(scope="module")
def model(pair: tuple[OnlineGateway, list[RunningHost]]) -> Any:
    fitted = LogisticRegression().fit(ROWS, (ROWS["a"] > 0).astype(int))
    for tenant in ("acme", "globex"):
        pair[0].register(tenant, "m", fitted, ROWS)
    return fitted


def test_each_tenant_has_children_of_its_own(pair: tuple[OnlineGateway, list[RunningHost]], model: Any) -> None:
    online, hosts = pair
    # One host alone, so that both tenants meet there.
    hosts[1].kill()
    counts = []
    for tenant in ("acme", "globex", "acme"):
        wait_until(partial(_answers, online, tenant))
        counts.append(len(hosts[0].children()))
    assert counts == [1, 2, 2]
    hosts[1].start()
    hosts[1].wait_ready()


def _answers(online: OnlineGateway, tenant: str) -> bool:
    try:
        online.caller(tenant).models("Predict", predict_request("m", ROWS.head(1)))
    except grpc.RpcError:
        return False
    return True


def test_a_killed_child_costs_at_most_what_it_held_and_is_replaced(
    pair: tuple[OnlineGateway, list[RunningHost]], model: Any
) -> None:
    online, hosts = pair
    with load(online, "acme", model) as seen:
        wait_until(partial(seen.has_answered, 50))
        for host in hosts:
            for child in host.children():
                child.kill()
        before = seen.answered
        wait_until(partial(seen.has_answered, before + 100))
    assert len(seen.errors) <= CLIENTS
    assert all(error.retryable for error in seen.errors), seen.errors


def test_a_killed_host_fails_no_request_where_another_one_is(
    pair: tuple[OnlineGateway, list[RunningHost]], model: Any
) -> None:
    online, hosts = pair
    for victim in hosts:
        with load(online, "acme", model) as seen:
            wait_until(partial(seen.has_answered, 50))
            victim.kill()
            before = seen.answered
            wait_until(partial(seen.has_answered, before + 100))
        assert not seen.errors
        victim.start()
        victim.wait_ready()
        wait_until(partial(_connected, online, victim))


def test_the_only_host_that_is_killed_costs_what_it_held_and_serves_again_when_it_is_back(
    pair: tuple[OnlineGateway, list[RunningHost]], model: Any
) -> None:
    online, hosts = pair
    hosts[1].kill()
    with load(online, "acme", model) as seen:
        wait_until(partial(seen.has_answered, 50))
        hosts[0].kill()
        killed = time.monotonic()
        hosts[0].start()
        before = seen.answered
        wait_until(partial(seen.has_answered, before + 100), 40.0)
    assert all(error.retryable for error in seen.errors), seen.errors
    # A caller is told soon enough that nobody is there.
    assert len(seen.errors) <= CLIENTS * (2 + (time.monotonic() - killed) / 5)
    hosts[1].start()
    hosts[1].wait_ready()


def _connected(online: OnlineGateway, host: RunningHost) -> bool:
    links = online.gateway.gateway._online.hosts._links
    return links["127.0.0.1", host.port].is_open
