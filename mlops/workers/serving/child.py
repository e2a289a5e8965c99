"""A child of a serving host: it keeps models of one tenant loaded, and predicts one batch at a time."""

from __future__ import annotations

import gc
import logging
import random
import signal
import socket
import sys
from functools import cache
from pathlib import Path

from google.protobuf.message import Message
from threadpoolctl import ThreadpoolController

from mlops.errors import FailedPrecondition, InvalidRequest, MemoryLimitExceeded, MlopsError, Unavailable
from mlops.ml.modelcache import ModelCache
from mlops.ml.prediction import Predictor
from mlops.v1 import serving_pb2 as pb
from mlops.wire.status import to_status
from mlops.workers.messages import LENGTH, receive_frame
from mlops.workers.serving import tensors

logger = logging.getLogger(__name__)

MAX_ERROR_CHARACTERS = 1000


def serve(connection: socket.socket, libraries: ThreadpoolController) -> None:
    """Answers batches until the host closes the connection, or kills this process.

    libraries: the thread pools of BLAS and OpenMP in this process.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    random.seed()
    sys.modules["numpy"].random.seed()
    libraries.limit(limits=1)
    models = ModelCache()
    try:
        while (frame := receive_frame(connection)) is not None:
            connection.sendall(_framed(_answer(models, pb.Batch.FromString(frame))))
    except (BrokenPipeError, ConnectionResetError):
        return


@cache
def _path(directory: str) -> Path:
    return Path(directory)


def _framed(message: Message) -> bytes:
    body = message.SerializeToString()
    return LENGTH.pack(len(body)) + body


def _answer(models: ModelCache, batch: pb.Batch) -> pb.BatchReply:
    models.max_bytes = batch.cache_bytes
    held = models.held_bytes
    try:
        predictor = models.get(_path(batch.directory))
    except FileNotFoundError as error:
        # Evicted from the host's cache: the host fetches them again.
        return pb.BatchReply(error=_status(Unavailable(f"the model's files are gone: {error}")))
    except MlopsError as error:
        logger.warning("%s cannot be loaded", batch.directory, exc_info=True)
        return pb.BatchReply(error=_status(error))
    except MemoryError:
        return pb.BatchReply(error=_status(MemoryLimitExceeded("the model needs more memory than a process may have")))
    except Exception as error:
        logger.exception("%s cannot be loaded", batch.directory)
        return pb.BatchReply(error=_status(FailedPrecondition(f"the model cannot be loaded: {_text(error)}")))
    if models.held_bytes != held:
        # A collection would otherwise walk over the whole model again and again.
        gc.collect()
        gc.freeze()
    if not batch.requests:
        return pb.BatchReply()
    return pb.BatchReply(outcomes=_outcomes(predictor, batch, [pb.Rows.FromString(rows) for rows in batch.requests]))


def _outcomes(predictor: Predictor, batch: pb.Batch, requests: list[pb.Rows]) -> list[pb.Outcome]:
    """All together and, should that fail, each by itself: what is wrong with one is the others' no matter."""
    methods = [tensors.METHODS[number] for number in batch.methods]
    try:
        inputs = tensors.read(requests, predictor.card.features)
        predicted = predictor.predict(inputs, methods)
        found = tensors.write(predicted, [request.count for request in requests])
        return [pb.Outcome(outputs=outputs) for outputs in found]
    except Exception as error:  # noqa: BLE001  # whatever scikit-learn raises is the answer to who sent the rows
        if len(requests) == 1:
            return [pb.Outcome(error=_status(_refusal(error)))]
    return [outcome for request in requests for outcome in _outcomes(predictor, batch, [request])]


def _refusal(error: Exception) -> MlopsError:
    if isinstance(error, MlopsError):
        return error
    if isinstance(error, MemoryError):
        return MemoryLimitExceeded("the prediction needs more memory than a process may have: send fewer rows")
    logger.info("a request cannot be predicted", exc_info=error)
    return InvalidRequest(f"the model cannot predict these rows: {_text(error)}", violations={"rows": _text(error)})


def _status(error: MlopsError) -> bytes:
    return to_status(error).SerializeToString()


def _text(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= MAX_ERROR_CHARACTERS else text[:MAX_ERROR_CHARACTERS] + "…"
