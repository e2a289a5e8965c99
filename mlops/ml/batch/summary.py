"""Adds up what the shards of a batch job found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlops import errors, names
from mlops.jobs.card import ModelCard
from mlops.jobs.inference import BatchInferencePlan, BatchReport, ShardFound
from mlops.ml.batch import scores
from mlops.ml.batch.rejects import check_rejects
from mlops.ml.drift import drifts
from mlops.ml.failures import translated
from mlops.ml.progress import Report

MAX_WARNINGS = 50


@dataclass(frozen=True, kw_only=True)
class SummariseCall:
    """The end of a batch job. shards: the shard.json of every shard, in order; warnings: of the planning;
    out: an existing, empty directory.
    """

    plan: BatchInferencePlan
    card: ModelCard
    shards: tuple[Path, ...]
    warnings: tuple[str, ...]
    out: Path


def summarise(call: SummariseCall, report: Report) -> BatchReport:
    """Writes report.json into `call.out`.

    Raises DataInvalid where more rows were rejected than the job allows, all shards together.
    """
    with translated(names.SUMMARISE_STEP):
        report(0.0, "adding up the shards")
        found = [ShardFound.model_validate_json(path.read_bytes()) for path in call.shards]
        if [shard.shard for shard in found] != list(range(len(found))):
            raise errors.Internal("the shards are not complete, or out of order")
        rejected = sum(shard.rejected_rows for shard in found)
        check_rejects(rejected, call.plan.max_rejects)
        total = scores.added(shard.scores for shard in found if shard.scores is not None)
        samples = [(shard.rows / shard.sampled_rows, shard.drift) for shard in found if shard.sampled_rows]
        summary = BatchReport(
            rows=sum(shard.rows for shard in found),
            rejected_rows=rejected,
            files=tuple(shard.file for shard in found),
            rejects=tuple(shard.rejects for shard in found if shard.rejects is not None),
            columns=found[0].columns if found else {},
            drift=drifts(call.card.reference, samples),
            scores=scores.metrics(total, call.card),
            scored_rows=total.rows,
            predict_seconds=sum(shard.predict_seconds for shard in found),
            peak_memory_bytes=max((shard.peak_memory_bytes for shard in found), default=0),
            engine=_engines(found),
            warnings=tuple(dict.fromkeys((*call.warnings, *(text for shard in found for text in shard.warnings))))[
                :MAX_WARNINGS
            ],
        )
        (call.out / names.STEP_REPORT).write_text(summary.model_dump_json(), encoding="utf-8")
    report(1.0, "done")
    return summary


def _engines(found: list[ShardFound]) -> str:
    """The engine, or both where shards of different lengths used different ones."""
    return ", ".join(dict.fromkeys(shard.engine.value for shard in found)) or "sklearn"
