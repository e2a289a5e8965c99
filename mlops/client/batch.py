"""From the arguments of `client.predict_batch` to the spec that is submitted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

from pydantic import ValidationError

from mlops import errors
from mlops.client.datasets import AsyncDatasets
from mlops.client.prediction import predict_methods
from mlops.client.quantities import parse_bytes, parse_duration
from mlops.client.reference import model_reference
from mlops.jobs.card import PredictMethod
from mlops.jobs.dataset import Dataset, ReadOptions
from mlops.jobs.inference import BatchInferenceSpec, OnBadRow, OutputFormat
from mlops.jobs.model import Model, ModelVersion
from mlops.jobs.report import TrainingResult


class BatchOptions(TypedDict, total=False):
    """The optional arguments of `client.predict_batch`. What is left out is chosen by the platform."""

    # Of both at most one; the champion, else the newest version, where neither is given.
    version: int | None
    alias: str | None
    # "predict", "predict_proba", "decision_function", or several of them.
    outputs: str | PredictMethod | Sequence[PredictMethod | str]
    # Columns of the input that stand in the output too; "*" for all of them.
    carry: str | Sequence[str]
    # "parquet", "arrow", "csv" or "jsonl".
    output_format: OutputFormat | str
    rows_per_shard: int | None
    # "fail": a row that cannot be predicted fails the job. "reject": it goes to the rejects.
    on_bad_row: OnBadRow | str
    # With "reject": more than this fail the job.
    max_rejects: int | None
    # Score the predictions against this column.
    target: str | None
    # What the job is called in lists; the model's name where it is left out.
    name: str | None
    # Of each shard's process. Memory in bytes, or a text such as "2GiB".
    cpus: int
    memory: int | str
    # Seconds, a timedelta, or a text such as "30m": of each shard, once it has its cores.
    time_limit: timedelta | float | str
    # How often a shard is tried that failed for a passing reason.
    max_attempts: int
    labels: Mapping[str, str]
    # How to read the file or the URI; of a dataset it is settled.
    read_options: ReadOptions | None


def batch_spec(
    model: str | Model | ModelVersion | TrainingResult,
    data: Dataset | str,
    *,
    version: int | None = None,
    alias: str | None = None,
    outputs: str | PredictMethod | Sequence[PredictMethod | str] = PredictMethod.PREDICT,
    carry: str | Sequence[str] = (),
    output_format: OutputFormat | str = OutputFormat.PARQUET,
    rows_per_shard: int | None = None,
    on_bad_row: OnBadRow | str = OnBadRow.FAIL,
    max_rejects: int | None = None,
    target: str | None = None,
    name: str | None = None,
    cpus: int | None = None,
    memory: int | str | None = None,
    time_limit: timedelta | float | str | None = None,
    max_attempts: int | None = None,
    labels: Mapping[str, str] | None = None,
    read_options: ReadOptions | None = None,
) -> BatchInferenceSpec:
    """The spec that these arguments ask for. Raises InvalidRequest, naming each argument that breaks a rule.

    data: a dataset, its id, its name, or a URI; what is to be sent first is no longer here.
    """
    meant = model_reference(model, version, alias)
    source = data.id if isinstance(data, Dataset) else data
    if read_options is not None and not is_uri(source):
        raise errors.InvalidRequest.of("read_options", "belong to a file or a URI; a dataset has been read already")
    resources: dict[str, Any] = {}
    if cpus is not None:
        resources["cpus"] = cpus
    if memory is not None:
        resources["memory_bytes"] = parse_bytes(memory, field="memory")
    plain: dict[str, Any] = {
        "model": meant.name,
        "version": meant.version,
        "alias": meant.alias,
        "uri" if is_uri(source) else "dataset": source,
        "read_options": read_options,
        "name": name,
        "outputs": tuple(predict_methods(outputs)),
        "carry": (carry,) if isinstance(carry, str) else tuple(carry),
        "output_format": output_format,
        "rows_per_shard": rows_per_shard,
        "on_bad_row": on_bad_row,
        "max_rejects": max_rejects,
        "target": target,
        "resources": resources,
        "time_limit": None if time_limit is None else parse_duration(time_limit, field="time_limit"),
        "max_attempts": max_attempts,
        "labels": dict(labels or {}),
    }
    return _checked({field: value for field, value in plain.items() if value is not None})


# Fields of the spec whose argument has another name.
_ARGUMENTS = {
    "dataset": "data",
    "uri": "data",
    "resources.cpus": "cpus",
    "resources.memory_bytes": "memory",
}


def _checked(plain: Mapping[str, Any]) -> BatchInferenceSpec:
    try:
        return BatchInferenceSpec.model_validate(plain)
    except ValidationError as exc:
        violations: dict[str, str] = {}
        for problem in exc.errors(include_url=False, include_context=False):
            path = ".".join(str(part) for part in problem["loc"])
            given = problem["input"]
            shown = f", got {given!r}" if isinstance(given, str | int | float | bool) else ""
            violations[_ARGUMENTS.get(path, path)] = problem["msg"].removeprefix("Value error, ") + shown
        listed = "; ".join(f"{field}: {problem}" for field, problem in violations.items())
        raise errors.InvalidRequest(f"invalid batch inference: {listed}", violations=violations) from exc


def is_uri(text: str) -> bool:
    """Whether a text is a URI, and not the id or the name of a dataset."""
    return "://" in text


async def resolved_spec(
    datasets: AsyncDatasets,
    model: str | Model | ModelVersion | TrainingResult,
    data: object,
    options: BatchOptions,
) -> BatchInferenceSpec:
    """The spec that these arguments ask for; a table or a file is uploaded, once everything else is found right."""
    if isinstance(data, Dataset) or (isinstance(data, str) and not _is_file(data)):
        return batch_spec(model, data, **options)
    rest = options.copy()
    read_options = rest.pop("read_options", None)
    checked = batch_spec(model, "to be sent", **rest)
    is_path = isinstance(data, str | os.PathLike)
    dataset = await datasets.upload(data, None if is_path else f"{checked.model}-input", read_options=read_options)
    return checked.model_copy(update={"dataset": dataset.id})


def _is_file(text: str) -> bool:
    """Whether a text is the path of a file: it has a folder or a suffix, and the file is there."""
    path = Path(text)
    return not is_uri(text) and (path.suffix != "" or os.sep in text) and path.is_file()
