"""Predicts one shard of a batch job. Runs in a child of the pool, which keeps the model for the next shard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from mlops import names
from mlops.jobs.card import PredictMethod
from mlops.jobs.inference import BatchInferencePlan, OnBadRow, ResultFile, ShardFound, ShardRange, ShardScores
from mlops.ml import modelcache
from mlops.ml.batch import scores
from mlops.ml.batch.block import Block, block_of
from mlops.ml.batch.careful import Careful
from mlops.ml.batch.columns import ROW, arrays_of, carried, output_names, prediction_type
from mlops.ml.batch.rejects import Rejects
from mlops.ml.batch.source import BatchSource, open_source
from mlops.ml.batch.writing import open_writer, stored_schema
from mlops.ml.caught import collected, texts_of
from mlops.ml.cores import on_cores
from mlops.ml.drift import DriftSample
from mlops.ml.failures import translated
from mlops.ml.prediction import Outputs, Predictor, take
from mlops.ml.progress import Report

SHARD_FILE = "shard.json"

# A block's inputs take at most so much memory; what holds them while they are made and predicted, a few times that.
BLOCK_BYTES = 16 * 1024**2
MIN_BLOCK_ROWS = 1024
MAX_BLOCK_ROWS = 64 * 1024
_NUMBER_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class ShardCall:
    """One shard. model: the directory of the model's files; source: what the shards are read from, laid out as
    ShardList.input_format says; out: an existing, empty directory.
    """

    plan: BatchInferencePlan
    model: Path
    source: Path
    input_format: str
    shard: int
    rows: ShardRange
    out: Path


def predict_shard(call: ShardCall, report: Report) -> ShardFound:
    """Writes the shard's result file, its rejects if there are any, and last SHARD_FILE into `call.out`.

    Memory holds a block of rows, and a row group of the output. Drift is counted on an even sample of at most
    drift.MAX_ROWS rows. Reports `rows`, how many are done. Raises DataInvalid for a row that cannot be predicted
    (its number counts from 0 in the whole input), or for more of them than the job allows; FitFailed where the
    model fails whatever the row; UnsafeModel; MemoryLimitExceeded.
    """
    started = time.perf_counter()
    cpus = call.plan.resources.cpus
    with translated(names.shard_step(call.shard)), collected() as caught, on_cores(cpus):
        report(0.0, "loading the model")
        predictor = modelcache.OF_THIS_PROCESS.get(call.model)
        source = open_source(call.source, call.input_format, threads=cpus)
        # Only now: loading the model has loaded the libraries that bring thread pools.
        with threadpool_limits(cpus):
            found = _Shard(call, predictor, source).run(report)
        found = found.model_copy(update={"seconds": time.perf_counter() - started, "warnings": texts_of(caught)})
        (call.out / SHARD_FILE).write_text(found.model_dump_json(), encoding="utf-8")
    report(1.0, "done", rows=call.rows.stop - call.rows.start)
    return found


class _Shard:
    """The work on one shard."""

    def __init__(self, call: ShardCall, predictor: Predictor, source: BatchSource) -> None:
        plan, card = call.plan, predictor.card
        self._call, self._predictor, self._source = call, predictor, source
        self._rows = call.rows.stop - call.rows.start
        self._carried = carried(plan, source.types)
        self._features = [feature.name for feature in card.features if feature.name in source.types]
        self._names = output_names(plan, card, predictor.classes)
        self._block_rows = _block_rows(len(card.features) + sum(map(len, self._names.values())))
        # Scores rest on the prediction, whether it is asked for or not.
        methods = [*plan.outputs, PredictMethod.PREDICT] if plan.target else plan.outputs
        self._methods = tuple(dict.fromkeys(methods))
        self._engine = predictor.engine_for(min(self._rows, self._block_rows), self._methods)
        self._careful = Careful(predictor, self._methods, self._engine)
        self._rejects = Rejects(plan.on_bad_row, plan.max_rejects)
        self._drift = DriftSample(card.reference, self._rows)
        self._scores: list[ShardScores] = []
        self._predict_seconds = 0.0
        fields = {
            ROW: pa.int64(),
            **{name: source.types[name] for name in self._carried},
            **{name: self._type(method) for method, columns in self._names.items() for name in columns},
        }
        self._schema = stored_schema(pa.schema(list(fields.items())), plan.output_format)

    def run(self, report: Report) -> ShardFound:
        """Reads, predicts and writes block after block."""
        call, plan = self._call, self._call.plan
        path = call.out / names.result_file(call.shard, plan.output_format.value)
        plain = [name for columns in self._names.values() for name in columns if name != "prediction"]
        done = written = 0
        with open_writer(path, self._schema, plan.output_format, plain=tuple(plain)) as writer:
            for first, batch in self._blocks():
                result = self._predict(first, batch)
                if result.num_rows:
                    writer.write_batch(result)
                done, written = done + batch.num_rows, written + result.num_rows
                report(done / self._rows, f"{done:,} of {self._rows:,} rows", rows=done)
        return ShardFound(
            shard=call.shard,
            rows=self._rows,
            rejected_rows=len(self._rejects),
            file=ResultFile(name=path.name, rows=written, size_bytes=path.stat().st_size),
            rejects=self._rejects.write(call.out / names.rejects_file(call.shard)),
            columns={field.name: str(field.type) for field in self._schema},
            sampled_rows=self._drift.rows,
            drift=self._drift.counts(),
            scores=scores.added(self._scores) if plan.target else None,
            engine=self._engine,
            predict_seconds=self._predict_seconds,
        )

    def _blocks(self) -> Iterator[tuple[int, Any]]:
        """Record batches of every column that is needed, each with the number of its first row."""
        plan, rows = self._call.plan, self._call.rows
        needed = [*self._features, *self._carried, *([plan.target] if plan.target else [])]
        first = rows.start
        for batch in self._source.blocks(list(dict.fromkeys(needed)), rows.start, rows.stop, self._block_rows):
            yield first, batch
            first += batch.num_rows

    def _predict(self, first: int, batch: Any) -> Any:
        """The result of a block as a record batch; bad rows are put aside."""
        card = self._predictor.card
        block = block_of(card.features, batch, as_matrix=self._predictor.takes_matrix)
        self._drift.add(block.inputs)
        outputs, good, bad = self._answers(block)
        self._rejects.add(bad, batch, first, self._carried or self._features)
        kept = batch if good is None else batch.take(pa.array(good))
        if self._call.plan.target:
            target = kept.column(kept.schema.get_field_index(self._call.plan.target))
            if len(target):
                self._scores.append(scores.scores_of(target, outputs, card, self._predictor.classes))
        numbers = np.arange(block.rows) if good is None else good
        arrays = {ROW: pa.array(numbers + first, pa.int64())}
        arrays |= {name: kept.column(kept.schema.get_field_index(name)) for name in self._carried}
        if outputs:
            arrays |= arrays_of(outputs, self._names, card)
        else:
            arrays |= {name: pa.nulls(0, self._schema.field(name).type) for name in self._schema.names[len(arrays) :]}
        return pa.record_batch(
            [_as(array, field.type) for array, field in zip(arrays.values(), self._schema, strict=True)],
            schema=self._schema,
        )

    def _answers(self, block: Block) -> tuple[Outputs, Any, dict[int, str]]:
        """(outputs of the good rows, their positions or None for all, the reasons of the bad ones)."""
        good, bad = block.good(), dict(block.bad)
        fails = self._call.plan.on_bad_row is OnBadRow.FAIL
        inputs = block.inputs if good is None else take(block.inputs, good)
        rows = block.rows if good is None else len(good)
        if not rows or (bad and fails):
            return {}, np.arange(0), bad
        started = time.perf_counter()
        answered = self._careful.predict(inputs, rows, first_only=fails)
        self._predict_seconds += time.perf_counter() - started
        if not answered.failed:
            return answered.outputs, good, bad
        positions = np.arange(block.rows) if good is None else good
        bad |= {int(positions[row]): reason for row, reason in answered.failed.items()}
        return answered.outputs, np.delete(positions, list(answered.failed)), bad

    def _type(self, method: PredictMethod) -> Any:
        return prediction_type(self._predictor.card) if method is PredictMethod.PREDICT else pa.float64()


def _block_rows(width: int) -> int:
    return max(MIN_BLOCK_ROWS, min(MAX_BLOCK_ROWS, BLOCK_BYTES // (_NUMBER_BYTES * max(width, 1))))


def _as(array: Any, kind: Any) -> Any:
    return array if array.type == kind else array.cast(kind)
