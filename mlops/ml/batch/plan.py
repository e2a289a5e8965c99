"""Divides the input of a batch job into shards, once it is known to fit the model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops import errors, names
from mlops.jobs.card import ModelCard
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.inference import MAX_SHARDS, BatchInferencePlan, ShardList, ShardRange, used_columns
from mlops.jobs.inputs import Fit, fit_columns
from mlops.ml.batch import scores
from mlops.ml.batch.columns import carried, check_names, output_names
from mlops.ml.batch.conversion import Laid, laid_out
from mlops.ml.batch.source import CANONICAL, BatchSource, kinds_of, open_source
from mlops.ml.failures import translated
from mlops.ml.progress import Report, portion

# A shard takes seconds, so that progress shows, a retry costs little and every core has something to do.
SHARD_ROWS = 250_000
MIN_SHARD_ROWS = 20_000
# What the rows of a shard would take as numbers, at most, of the memory that the job asked for.
_MEMORY_SHARE = 0.125
_NUMBER_BYTES = 8
# A piece of a file is read whole by every shard that has a part in it: one that is not much too long stays whole.
_WHOLE_UP_TO = 4
_MAX_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class PlanShardsCall:
    """The input of a batch job.

    source: a dataset's canonical Arrow file (`is_canonical`), or the bytes at the plan's URI. out: an existing,
    empty directory, where ingest.DATA_FILE is left if the shards cannot be read from the source itself.
    """

    plan: BatchInferencePlan
    card: ModelCard
    source: Path
    is_canonical: bool
    out: Path


def plan_shards(call: PlanShardsCall, report: Report) -> ShardList:
    """Holds the input's columns against the model and lists the shards.

    CSV and JSON lines become a canonical Arrow file; other formats are read where they are, unless they are packed.
    Raises DataInvalid where the input cannot be read, does not fit the model, or lacks a column that is asked for.
    """
    plan, card = call.plan, call.card
    with (
        translated(names.PLAN_STEP),
        tempfile.TemporaryDirectory(dir=call.out.parent, prefix="plan-") as directory,
    ):
        report(0.0, "looking at the input")
        laid = Laid(path=call.source, input_format=CANONICAL)
        if not call.is_canonical:
            laid = laid_out(call.source, plan, card, Path(directory), call.out, portion(report, 0.0, 0.9))
        source = open_source(laid.path, laid.input_format)
        if not source.rows:
            raise errors.DataInvalid("the input has no rows")
        fit = _checked(plan, card, source, laid)
        shards = tuple(_shards(plan, card, source))
        if len(shards) > MAX_SHARDS:
            raise errors.DataInvalid(
                f"{source.rows} rows make {len(shards)} shards; {MAX_SHARDS} is the most",
                hint="Ask for more rows a shard, or leave that to the platform.",
            )
    report(1.0, "done")
    return ShardList(
        input_format=laid.input_format,
        is_converted=laid.path != call.source,
        rows=source.rows,
        shards=shards,
        warnings=fit.warnings(used=used_columns(plan, source.types)),
    )


def _checked(plan: BatchInferencePlan, card: ModelCard, source: BatchSource, laid: Laid) -> Fit:
    """How the input fits the model; raises DataInvalid where it does not, or where an output is not possible."""
    kinds: dict[str, ColumnKind | None] = kinds_of(source, [feature.name for feature in card.features])
    kinds |= laid.kinds
    fit = fit_columns(card.features, kinds)
    if fit.problems:
        raise errors.DataInvalid(
            f"the input does not fit the model: {fit.summary()}",
            hint="Columns are matched by name; `mlops model get` shows what the model takes.",
            columns=list(fit.problems)[:_MAX_NAMED],
        )
    unknown = [method.value for method in plan.outputs if method not in card.methods]
    if unknown:
        raise errors.DataInvalid(
            f"the model has no {unknown[0]}",
            hint=f"Ask for {', '.join(method.value for method in card.methods)}.",
        )
    check_names(carried(plan, source.types), output_names(plan, card, card.classes))
    if plan.target is not None:
        if plan.target not in source.types:
            raise errors.DataInvalid(
                f"the input has no column {plan.target!r} to score against",
                hint="Name the column that holds the true values, or score nothing.",
            )
        scores.check_target(plan.target, source.types[plan.target], card)
    return fit


def _shards(plan: BatchInferencePlan, card: ModelCard, source: BatchSource) -> Iterator[ShardRange]:
    if plan.rows_per_shard is not None:
        yield from _even(0, source.rows, plan.rows_per_shard)
        return
    width = len(card.features) + len(plan.carry) + len(card.classes) + 1
    affordable = int(plan.resources.memory_bytes * _MEMORY_SHARE) // (_NUMBER_BYTES * width)
    wanted = min(max(affordable, MIN_SHARD_ROWS), SHARD_ROWS)
    if source.parts:
        yield from _by_parts(source.parts, wanted)
    else:
        yield from _equal(0, source.rows, wanted)


def _by_parts(parts: Sequence[int], wanted: int) -> Iterator[ShardRange]:
    """Whole pieces of the file, small ones together; only pieces that are much too long are divided."""
    start = stop = 0
    for rows in parts:
        if stop > start and stop + rows - start > wanted:
            yield ShardRange(start=start, stop=stop)
            start = stop
        stop += rows
        if stop - start > _WHOLE_UP_TO * wanted:
            yield from _equal(start, stop, _WHOLE_UP_TO * wanted)
            start = stop
    if stop > start:
        yield ShardRange(start=start, stop=stop)


def _equal(start: int, stop: int, most: int) -> Iterator[ShardRange]:
    """As few ranges of at most so many rows as will do, of about one length."""
    count = -(-(stop - start) // most)
    yield from _even(start, stop, -(-(stop - start) // count))


def _even(start: int, stop: int, rows: int) -> Iterator[ShardRange]:
    for first in range(start, stop, rows):
        yield ShardRange(start=first, stop=min(first + rows, stop))
