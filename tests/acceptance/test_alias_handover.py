"""An alias moves to another version while clients predict by it, on the whole stack."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import httpx
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from mlops.tracking.credentials import Account
from mlops.v1 import models_pb2
from tests.fixtures.gateway import Caller
from tests.fixtures.serving import predict_request
from tests.fixtures.stack import RunningStack

CLIENTS = 4
# Within two seconds all use the new version.
HANDED_OVER_SECONDS = 2.0
TABLE = pd.DataFrame(np.random.default_rng(3).normal(size=(120, 3)), columns=["a", "b", "c"])


@dataclass
class Seen:
    """Every answer: when its request was sent, and which version gave it."""

    answers: list[tuple[float, int]] = field(default_factory=list)
    errors: list[grpc.RpcError] = field(default_factory=list)

    def settled(self, moved: float, version: int) -> float:
        """How long after the move the last request was sent that another version answered."""
        late = [sent - moved for sent, by in self.answers if sent > moved and by != version]
        return max(late, default=0.0)


@contextmanager
def load(channel: grpc.Channel, key: str, alias: str) -> Iterator[Seen]:
    seen, stop = Seen(), threading.Event()
    caller, request = Caller(channel, key), predict_request("churn", TABLE.head(1), alias=alias)

    def ask() -> None:
        while not stop.is_set():
            sent = time.monotonic()
            try:
                seen.answers.append((sent, caller.models("Predict", request).version))
            except grpc.RpcError as error:
                seen.errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def watch(seen: Seen, version: int) -> None:
    """Goes on until the version has answered for a while."""
    deadline = time.monotonic() + 15
    while not (seen.answers and seen.answers[-1][1] == version):
        assert time.monotonic() < deadline, "the new version never answered"
        time.sleep(0.02)
    time.sleep(0.5)


def test_no_request_fails_and_within_two_seconds_all_use_the_aliass_new_version(stack: RunningStack) -> None:
    slug, key = stack.new_tenant()
    with stack.client(key) as client:
        dataset = client.datasets.upload(TABLE.assign(target=(TABLE["a"] > 0).astype(int)), name="churn")
        for c in (1.0, 0.5):
            client.train(LogisticRegression(C=c), dataset, target="target", name="churn", folds=2).wait(timeout=120)
    channel = grpc.insecure_channel(stack.address)
    owner = Caller(channel, key)
    owner.models("SetModelAlias", models_pb2.SetModelAliasRequest(name="churn", alias="live", version=1))

    # By us, which is told to every gateway by the tracker alone.
    with load(channel, key, "live") as seen:
        watch(seen, 1)
        owner.models("SetModelAlias", models_pb2.SetModelAliasRequest(name="churn", alias="live", version=2))
        moved = time.monotonic()
        watch(seen, 2)
    assert not seen.errors
    assert seen.settled(moved, 2) < HANDED_OVER_SECONDS

    # On MLflow's own page: nobody tells the gateway.
    account = Account.of_tenant(stack.config.secret_key, slug)
    with load(channel, key, "live") as seen, httpx.Client(base_url=stack.mlflow_url, headers=account.headers()) as page:
        watch(seen, 2)
        body = {"name": "churn", "alias": "live", "version": "1"}
        page.post("/api/2.0/mlflow/registered-models/alias", json=body).raise_for_status()
        moved = time.monotonic()
        watch(seen, 1)
    assert not seen.errors
    assert seen.settled(moved, 1) < HANDED_OVER_SECONDS
    channel.close()
