"""One online prediction, from the request to the answer: the same for every service that takes one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mlops.errors import Code, InvalidRequest, MlopsError
from mlops.gateway.serving.figures import Figures
from mlops.gateway.serving.hosts import Hosts
from mlops.gateway.serving.inputs import Encoded
from mlops.gateway.serving.router import Route, Router, Target, Which
from mlops.gateway.serving.shadow import RuleKey, Shadow
from mlops.gateway.serving.throttle import Throttle
from mlops.jobs.card import Engine, PredictMethod
from mlops.v1 import models_pb2
from mlops.v1 import serving_pb2 as pb

NUMBERS: dict[PredictMethod, models_pb2.PredictMethod.ValueType] = {
    PredictMethod.PREDICT: models_pb2.PREDICT_METHOD_PREDICT,
    PredictMethod.PREDICT_PROBA: models_pb2.PREDICT_METHOD_PREDICT_PROBA,
    PredictMethod.DECISION_FUNCTION: models_pb2.PREDICT_METHOD_DECISION_FUNCTION,
}
ENGINES: dict[int, Engine] = {models_pb2.ENGINE_SKLEARN: Engine.SKLEARN, models_pb2.ENGINE_ONNX: Engine.ONNX}
MAX_KEY_CHARS = 1000


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked: of which model, by which methods, and how its rows are read once it is known what they must fit."""

    model: str
    which: Which
    request_key: str
    methods: Sequence[PredictMethod]
    encode: Callable[[Target], Encoded]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Who answered, and what."""

    target: Target
    outputs: pb.Outputs
    encoded: Encoded
    engine: Engine


class Predictions:
    """The predictions of every tenant."""

    def __init__(self, *, router: Router, hosts: Hosts, throttle: Throttle, shadow: Shadow, figures: Figures) -> None:
        self._router = router
        self._hosts = hosts
        self._throttle = throttle
        self._shadow = shadow
        self._figures = figures

    async def predict(self, tenant: str, question: Question, seconds: float) -> Answered:
        """Answers a question whose caller waits for so many seconds.

        Raises NotFound, InvalidRequest, QuotaExceeded, DeadlineExceeded, FailedPrecondition and Unavailable, as
        Models.Predict in models.proto says.
        """
        begun = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + seconds
        if len(question.request_key) > MAX_KEY_CHARS:
            raise InvalidRequest.of("request_key", f"must have at most {MAX_KEY_CHARS} characters")
        quota = await self._throttle.quota(tenant)
        route = await self._router.route(tenant, question.model, question.which, question.request_key)
        target = route.target
        tally = self._figures.of(tenant, question.model, target.version)
        try:
            with self._throttle.admitted(tenant, quota):
                answered = await self._ask(target, question, deadline)
        except MlopsError as error:
            tally.failed(error.code)
            raise
        except asyncio.CancelledError:
            tally.failed(Code.CANCELLED)
            raise
        tally.answered(
            rows=answered.encoded.count,
            seconds=time.perf_counter() - begun,
            batch_rows=answered.outputs.batch_rows,
            engine=answered.engine,
        )
        if route.shadow is not None and route.since is not None:
            rule = RuleKey(tenant, question.model, route.since)
            again = partial(self._ask_challenger, tenant, route, question, seconds)
            self._shadow.score(rule, answered.outputs, answered.encoded.count, again)
        return answered

    async def _ask(self, target: Target, question: Question, deadline: float) -> Answered:
        for method in question.methods:
            if method not in target.card.methods:
                known = ", ".join(known.value for known in target.card.methods)
                raise InvalidRequest.of(
                    "outputs", f"version {target.version} of this model has no {method.value}; it has {known}"
                )
        encoded = question.encode(target)
        order = pb.PredictOrder(
            model=target.staged,
            methods=[NUMBERS[method] for method in question.methods],
            rows=encoded.data,
            row_count=encoded.count,
            is_matrix=encoded.is_matrix,
        )
        outputs = await self._hosts.predict(order, deadline)
        return Answered(target=target, outputs=outputs, encoded=encoded, engine=ENGINES[outputs.engine])

    async def _ask_challenger(self, tenant: str, route: Route, question: Question, seconds: float) -> pb.Outputs:
        target = await self._router.target(tenant, question.model, route.shadow)
        deadline = asyncio.get_running_loop().time() + seconds
        return (await self._ask(target, question, deadline)).outputs
