from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from mlops import names
from mlops.errors import DataInvalid, FitFailed, MemoryLimitExceeded
from mlops.jobs.card import ModelCard, PredictMethod
from mlops.jobs.dataset import ReadOptions
from mlops.jobs.inference import (
    BatchInferencePlan,
    BatchReport,
    OnBadRow,
    OutputFormat,
    ShardFound,
    ShardList,
    ShardRange,
)
from mlops.jobs.training import Resources, Task
from mlops.ml import modelcache
from mlops.ml.batch import careful, predict
from mlops.ml.batch import plan as planning
from mlops.ml.batch.plan import PlanShardsCall, plan_shards
from mlops.ml.batch.predict import SHARD_FILE, ShardCall, predict_shard
from mlops.ml.batch.summary import SummariseCall, summarise
from mlops.ml.ingest import DATA_FILE
from mlops.ml.memory import PeakMemory
from mlops.ml.prediction import Predictor
from mlops.ml.progress import Report, silent
from tests.fixtures.plans import flowers, prices, write_arrow
from tests.unit.stored_models import batch_plan, mixed, store_model

PREDICT, PROBA, DECISION = PredictMethod
FEATURES = ["a", "b", "c", "noise"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch job without its scheduler: a stored model, an input, and a directory for each step."""

    model: Path
    theirs: Any
    card: ModelCard
    directory: Path
    source: Path
    is_canonical: bool = False

    def plan(self, plan: BatchInferencePlan) -> ShardList:
        out = self._fresh("plan")
        call = PlanShardsCall(plan=plan, card=self.card, source=self.source, is_canonical=self.is_canonical, out=out)
        return plan_shards(call, silent)

    def shard(self, plan: BatchInferencePlan, listed: ShardList, shard: int, report: Report = silent) -> ShardFound:
        source = self.directory / "plan" / DATA_FILE if listed.is_converted else self.source
        call = ShardCall(
            plan=plan,
            model=self.model,
            source=source,
            input_format=listed.input_format,
            shard=shard,
            rows=listed.shards[shard],
            out=self._fresh(f"shard-{shard}"),
        )
        found = predict_shard(call, report)
        assert found == ShardFound.model_validate_json((call.out / SHARD_FILE).read_text())
        return found

    def run(self, plan: BatchInferencePlan) -> tuple[BatchReport, pd.DataFrame]:
        """Every step; the report, and all results as one frame (of Parquet)."""
        listed = self.plan(plan)
        shards = [self.shard(plan, listed, index) for index in range(len(listed.shards))]
        paths = tuple(self.directory / f"shard-{index}" / SHARD_FILE for index in range(len(shards)))
        call = SummariseCall(
            plan=plan, card=self.card, shards=paths, warnings=listed.warnings, out=self._fresh("summarise")
        )
        report = summarise(call, silent)
        assert report.model_dump_json() == (call.out / names.STEP_REPORT).read_text()
        BatchReport.model_validate_json(report.model_dump_json())
        frames = []
        if plan.output_format is OutputFormat.PARQUET:
            frames = [pd.read_parquet(self.directory / f"shard-{s.shard}" / s.file.name) for s in shards]
        return report, pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def _fresh(self, name: str) -> Path:
        out = self.directory / name
        out.mkdir()
        return out


def batch(
    directory: Path,
    frame: pd.DataFrame,
    *,
    model: Any = None,
    training: pd.DataFrame | None = None,
    task: Task = Task.CLASSIFICATION,
    row_group_size: int = 100,
) -> Batch:
    """A model that learnt from `training`, and `frame` as a Parquet file."""
    model = make_pipeline(StandardScaler(), LogisticRegression()) if model is None else model
    theirs, card, _ = store_model(model, flowers() if training is None else training, directory / "model", task=task)
    source = directory / "input"
    frame.to_parquet(source, row_group_size=row_group_size, index=False)
    return Batch(model=directory / "model", theirs=theirs, card=card, directory=directory, source=source)


def full_model() -> Any:
    return make_pipeline(
        ColumnTransformer(
            [
                ("numbers", SimpleImputer(), ["real", "gap", "when", "whole"]),
                ("flags", "passthrough", ["truth"]),
                ("words", OneHotEncoder(handle_unknown="ignore"), ["word"]),
                ("text", CountVectorizer(), "note"),
            ]
        ),
        LogisticRegression(solver="liblinear"),
    )


# --- what comes out ------------------------------------------------------------------------------


def test_shards_together_are_what_the_model_says_of_the_whole(tmp_path: Path) -> None:
    frame = flowers(450, seed=5).assign(id=np.arange(450) * 3)
    job = batch(tmp_path, frame)
    report, result = job.run(batch_plan(outputs=(PREDICT, PROBA, DECISION), carry=("id", "y"), rows_per_shard=130))
    classes = ["iris", "rose", "tulip"]
    assert list(result.columns) == [
        "row", "id", "y", "prediction", *(f"probability[{c}]" for c in classes), *(f"score[{c}]" for c in classes),
    ]  # fmt: skip
    assert result["row"].tolist() == list(range(450))
    assert result["id"].tolist() == frame["id"].tolist()
    assert result["prediction"].tolist() == job.theirs.predict(frame[FEATURES]).tolist()
    np.testing.assert_allclose(result.iloc[:, 4:7], job.theirs.predict_proba(frame[FEATURES]), rtol=1e-12)
    np.testing.assert_allclose(result.iloc[:, 7:10], job.theirs.decision_function(frame[FEATURES]), rtol=1e-12)
    assert (report.rows, report.rejected_rows, len(report.files)) == (450, 0, 4)
    assert [file.name for file in report.files] == [names.result_file(index, "parquet") for index in range(4)]
    assert [file.rows for file in report.files] == [130, 130, 130, 60]
    assert report.columns["prediction"] == "string"
    assert report.columns["id"] == "int64"
    assert report.engine == "sklearn"


def test_a_result_is_the_same_however_it_is_cut_into_shards_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for index, (rows_per_shard, block_rows) in enumerate(((1000, 64 * 1024), (77, 10), (1, 1024))):
        monkeypatch.setattr(predict, "MAX_BLOCK_ROWS", block_rows)
        monkeypatch.setattr(predict, "MIN_BLOCK_ROWS", 1)
        job = batch(tmp_path / str(index), flowers(160), row_group_size=50)
        results.append(job.run(batch_plan(outputs=(PREDICT, PROBA), rows_per_shard=rows_per_shard))[1])
    for result in results[1:]:
        pd.testing.assert_frame_equal(result, results[0], rtol=1e-13)


@pytest.mark.parametrize("output_format", OutputFormat)
def test_every_output_format_holds_the_same(output_format: OutputFormat, tmp_path: Path) -> None:
    frame = mixed().assign(at=pd.Timestamp("2024-05-01"))
    job = batch(tmp_path, frame, model=full_model(), training=mixed())
    plan = batch_plan(outputs=(PREDICT, PROBA), carry=("word", "gap", "at"), output_format=output_format)
    job.run(plan)
    path = tmp_path / "shard-0" / names.result_file(0, output_format.value)
    read: dict[OutputFormat, Any] = {
        OutputFormat.PARQUET: pd.read_parquet,
        OutputFormat.ARROW: lambda path: pa.ipc.open_file(path).read_pandas(),
        OutputFormat.CSV: pd.read_csv,
        OutputFormat.JSONL: lambda path: pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()]),
    }
    result = read[output_format](path)
    assert list(result.columns) == ["row", "word", "gap", "at", "prediction", "probability[no]", "probability[yes]"]
    assert result["prediction"].tolist() == job.theirs.predict(_as_trained(frame)).tolist()
    np.testing.assert_allclose(result["probability[yes]"], job.theirs.predict_proba(_as_trained(frame))[:, 1])
    np.testing.assert_array_equal(result["gap"].astype(float), frame["gap"])
    assert result["word"].astype(object).where(result["word"].notna(), None).tolist() == [
        None if pd.isna(word) else word for word in frame["word"]
    ]
    assert str(result["at"].iloc[0])[:10] == "2024-05-01"


def _as_trained(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame's features as ml.frame would load them."""
    seconds = (frame["when"] - pd.Timestamp("1970-01-01")) / pd.Timedelta(seconds=1)
    return frame.assign(when=seconds, word=frame["word"].astype(object), note=frame["note"].fillna(""))


# --- where it comes from -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["canonical", "parquet", "arrow", "arrow stream", "csv", "jsonl", "parquet.gz", "csv.gz"]
)
def test_an_input_of_any_format_gives_the_same(kind: str, tmp_path: Path) -> None:
    frame = mixed(200, seed=3)
    job = batch(tmp_path, frame, model=full_model(), training=mixed())
    expected = job.theirs.predict(_as_trained(frame)).tolist()
    source = tmp_path / "source"
    table = pa.Table.from_pandas(frame, preserve_index=False)
    match kind.removesuffix(".gz"):
        case "canonical":
            write_arrow(frame, source)
        case "parquet":
            pq.write_table(table, source, row_group_size=64)
        case "arrow":
            with pa.ipc.new_file(source, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
                writer.write_table(table, max_chunksize=33)
        case "arrow stream":
            with pa.ipc.new_stream(source, table.schema) as stream:
                stream.write_table(table, max_chunksize=33)
        case "csv":
            frame.to_csv(source, index=False)
        case "jsonl":
            frame.to_json(source, orient="records", lines=True, date_format="iso", date_unit="us", double_precision=15)
    if kind.endswith(".gz"):
        source.write_bytes(gzip.compress(source.read_bytes()))
    job = replace(job, source=source, is_canonical=kind == "canonical")
    plan = batch_plan(carry=("real",), rows_per_shard=70, uri=f"file:///data/{kind.replace(' stream', '')}")
    report, result = job.run(plan)
    assert result["prediction"].tolist() == expected
    np.testing.assert_allclose(result["real"], frame["real"], atol=1e-14)
    assert report.rows == 200
    is_converted = kind not in ("canonical", "parquet", "arrow")
    assert (tmp_path / "plan" / DATA_FILE).exists() == is_converted


def test_shards_follow_the_row_groups_and_large_ones_are_divided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "SHARD_ROWS", 100)
    monkeypatch.setattr(planning, "MIN_SHARD_ROWS", 1)

    def shards(groups: Sequence[int]) -> list[int]:
        directory = tmp_path / "-".join(map(str, groups))
        directory.mkdir()
        frame = flowers(sum(groups))
        job = batch(directory, frame)
        table = pa.Table.from_pandas(frame)
        with pq.ParquetWriter(job.source, table.schema) as writer:
            start = 0
            for rows in groups:
                writer.write_table(table.slice(start, rows))
                start += rows
        listed = job.plan(batch_plan())
        assert [shard.start for shard in listed.shards][1:] == [shard.stop for shard in listed.shards][:-1]
        return [shard.stop - shard.start for shard in listed.shards]

    assert shards([30, 30, 30, 30, 30]) == [90, 60]
    assert shards([300, 20, 20]) == [300, 40]
    assert shards([900]) == [300, 300, 300]


def test_wide_rows_make_shorter_shards(tmp_path: Path) -> None:
    frame = flowers(90_000)
    job = batch(tmp_path, frame)
    job = replace(job, is_canonical=True)
    write_arrow(frame, job.source)
    memory = 64 * 1024**2
    assert len(job.plan(batch_plan()).shards) == 1
    many = replace(
        job, directory=tmp_path / "wide", card=job.card.model_copy(update={"classes": tuple(map(str, range(50)))})
    )
    many.directory.mkdir()
    assert len(many.plan(batch_plan(resources=Resources(memory_bytes=memory))).shards) == 5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.integers(1, 2_000_000), min_size=1, max_size=40), wanted=st.integers(1, 300_000))
def test_shards_cover_every_row_once(parts: list[int], wanted: int) -> None:
    shards = list(planning._by_parts(parts, wanted))
    assert shards[0].start == 0
    assert shards[-1].stop == sum(parts)
    assert all(before.stop == after.start for before, after in itertools.pairwise(shards))
    assert all(0 < shard.stop - shard.start <= max(4 * wanted, wanted) for shard in shards)


def test_memory_does_not_grow_with_the_rows_of_a_shard(tmp_path: Path) -> None:
    peaks: list[int] = []
    for rows in (300_000, 900_000):
        frame = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 4)), columns=FEATURES)
        job = batch(tmp_path / str(rows), frame, row_group_size=rows)
        del frame
        plan = batch_plan(rows_per_shard=rows)
        listed, held = job.plan(plan), [0]
        before = pa.total_allocated_bytes()
        with PeakMemory(interval_seconds=0.005) as memory:
            start = memory.bytes
            job.shard(plan, listed, 0, lambda *_, **__: held.append(pa.total_allocated_bytes() - before))  # noqa: B023
        peaks.append(max(held))
        # The larger one is 29 MB of inputs in one row group.
        assert memory.bytes - start < 60_000_000
    assert peaks[1] < 1.2 * peaks[0]


# --- what fits -----------------------------------------------------------------------------------


def test_columns_are_matched_by_name_extra_ones_ignored_and_optional_ones_filled(tmp_path: Path) -> None:
    training = flowers()
    training.loc[::4, "c"] = np.nan
    frame = flowers(seed=2)
    job = batch(
        tmp_path,
        frame[["noise", "y", "b", "a"]].assign(extra=1),
        model=HistGradientBoostingClassifier(max_iter=5),
        training=training,
    )
    report, result = job.run(batch_plan())
    assert result["prediction"].tolist() == job.theirs.predict(frame[FEATURES].assign(c=np.nan)).tolist()
    assert report.warnings == (
        "columns that are not there count as missing in every row: c",
        "columns that the model does not take are ignored: y, extra",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="b"), "column 'b' is missing: the model needs it"),
        (lambda frame: frame.assign(b="x"), "column 'b' is text: the model takes numeric"),
        (lambda frame: frame.assign(b=np.nan).astype({"b": "Float64"}), "column 'b' has no values"),
        (lambda frame: frame.assign(b=[[1]] * len(frame)), "Column 'b' is of type list"),
        (lambda frame: frame.iloc[:0], "no rows"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_before_any_work(change: Any, message: str, tmp_path: Path) -> None:
    job = batch(tmp_path, change(flowers()))
    with pytest.raises(DataInvalid, match=message) as caught:
        job.plan(batch_plan())
    assert caught.value.step == names.PLAN_STEP


def test_what_loses_nothing_is_taken(tmp_path: Path) -> None:
    training = mixed()
    job = batch(tmp_path, training, model=full_model(), training=training)
    seconds = (training["when"] - pd.Timestamp("1970-01-01")) / pd.Timedelta(seconds=1)
    changed = training.assign(
        real=training["real"].round().astype("Int32"),
        whole=training["truth"],
        word=training["word"].astype(object),
        note=training["note"].astype("category"),
        when=seconds,
    )
    changed.to_parquet(job.source)
    _, result = job.run(batch_plan())
    expected = _as_trained(training.assign(real=training["real"].round(), whole=training["truth"].astype(int)))
    assert result["prediction"].tolist() == job.theirs.predict(expected).tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"carry": ("nothing",)}, "no column 'nothing', which is to be carried"),
        ({"carry": ("row",)}, "'row' cannot be carried: the output has one of that name"),
        ({"target": "nothing"}, "no column 'nothing' to score against"),
        ({"target": "a"}, "cannot be scored against the column 'a': it is numeric, and the model gives string"),
        ({"outputs": (PROBA,)}, "the model has no predict_proba"),
        ({"rows_per_shard": 1}, "150 rows make 150 shards"),
    ],
)
def test_an_output_that_is_not_possible_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MAX_SHARDS", 100)
    job = batch(tmp_path, flowers().assign(row=1), model=LinearSVC())
    with pytest.raises(DataInvalid, match=message):
        job.plan(batch_plan(**changes))


# --- rows that cannot be predicted ---------------------------------------------------------------


def poisoned(rows: int = 400) -> pd.DataFrame:
    frame = flowers(rows).assign(id=[f"id {row}" for row in range(rows)])
    frame.loc[201, "b"] = np.nan
    frame.loc[303, "c"] = np.inf
    return frame


def test_a_poisoned_row_fails_the_shard_with_its_number_and_its_column(tmp_path: Path) -> None:
    job = batch(tmp_path, poisoned())
    plan = batch_plan(rows_per_shard=200)
    listed = job.plan(plan)
    job.shard(plan, listed, 0)
    with pytest.raises(DataInvalid, match=r"row 201 \(counted from 0\) .* column 'b' has no value") as caught:
        job.shard(plan, listed, 1)
    assert caught.value.step == names.shard_step(1)
    assert caught.value.details["row"] == 201
    assert caught.value.hint
    assert not (tmp_path / "shard-1" / SHARD_FILE).exists()


@pytest.mark.parametrize("carry", [("id",), ()])
def test_poisoned_rows_land_in_the_rejects_and_nowhere_else(carry: tuple[str, ...], tmp_path: Path) -> None:
    job = batch(tmp_path, poisoned())
    plan = batch_plan(rows_per_shard=200, on_bad_row=OnBadRow.REJECT, carry=carry)
    report, result = job.run(plan)
    assert (report.rows, report.rejected_rows, len(result)) == (400, 2, 398)
    assert set(range(400)) - set(result["row"]) == {201, 303}
    good = poisoned().drop(index=[201, 303])
    assert result["prediction"].tolist() == job.theirs.predict(good[FEATURES]).tolist()
    assert [(file.name, file.rows) for file in report.rejects] == [(names.rejects_file(1), 2)]
    rejects = pq.read_table(tmp_path / "shard-1" / names.rejects_file(1)).to_pylist()
    assert [(one["row"], one["reason"]) for one in rejects] == [
        (201, "column 'b' has no value, and had none missing in training"),
        (303, "column 'c' is infinite"),
    ]
    values = json.loads(rejects[0]["values"])
    assert values == {"id": "id 201"} if carry else (values.keys() == set(FEATURES) and values["b"] is None)


def test_more_rejects_than_allowed_fail_a_shard_or_the_whole(tmp_path: Path) -> None:
    job = batch(tmp_path, poisoned())
    plan = batch_plan(rows_per_shard=300, on_bad_row=OnBadRow.REJECT, max_rejects=1)
    with pytest.raises(DataInvalid, match="2 rows cannot be predicted, more than the 1") as caught:
        job.run(plan)
    assert caught.value.step == names.SUMMARISE_STEP
    again = replace(job, directory=tmp_path / "again")
    again.directory.mkdir()
    plan = plan.model_copy(update={"max_rejects": 0})
    with pytest.raises(DataInvalid, match="1 rows cannot be predicted, more than the 0"):
        again.shard(plan, again.plan(plan), 0)


def test_values_of_a_csv_file_that_are_no_numbers_are_bad_rows(tmp_path: Path) -> None:
    frame = flowers(100).astype({"b": object, "c": object})
    frame.loc[7, "b"], frame.loc[9, "b"], frame.loc[11, "c"] = "n.a.!", "+1.5", ""
    job = batch(tmp_path, flowers())
    frame.to_csv(job.source, index=False)
    plan = batch_plan(on_bad_row=OnBadRow.REJECT, uri="s3://data/x.csv")
    report, result = job.run(plan)
    rejects = pq.read_table(tmp_path / "shard-0" / names.rejects_file(0)).to_pylist()
    assert [(one["row"], one["reason"]) for one in rejects] == [
        (7, "column 'b' holds 'n.a.!', which is no number"),
        (11, "column 'c' has no value, and had none missing in training"),
    ]
    assert (report.rows, len(result)) == (100, 98)
    good = frame.drop(index=[7, 11])[FEATURES].astype(float)
    assert result["prediction"].tolist() == job.theirs.predict(good).tolist()


def test_a_csv_column_that_is_something_else_is_refused_all_the_same(tmp_path: Path) -> None:
    job = batch(tmp_path, flowers())
    flowers(100).assign(b="word").to_csv(job.source, index=False)
    with pytest.raises(DataInvalid, match=r"column 'b' is (text|categorical): the model takes numeric"):
        job.plan(batch_plan(uri="s3://data/x.csv"))


def test_categories_that_look_like_numbers_stay_categories(tmp_path: Path) -> None:
    training = mixed()
    training["word"] = pd.Categorical(np.where(training["real"] > 0, "10", "zero"))
    job = batch(tmp_path, training, model=full_model(), training=training)
    frame = training[training["real"] > 0].reset_index(drop=True)
    frame.to_csv(job.source, index=False)
    _, result = job.run(batch_plan(uri="s3://data/x.csv"))
    assert result["prediction"].tolist() == job.theirs.predict(_as_trained(frame)).tolist()


class Touchy:
    """Fails where a value is beyond its bounds, as real estimators do at negative or huge values."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.calls = 0

    def predict(self, features: Any) -> Any:
        self.calls += 1
        if (np.asarray(features) > self.bound).any():
            raise ValueError("beyond all bounds")
        return np.asarray(features)[:, 0]


def touchy(tmp_path: Path, frame: pd.DataFrame, bound: float = 100.0) -> Batch:
    """A job whose model is Touchy, which no file can hold."""
    job = batch(tmp_path, frame, model=LinearRegression(), training=prices(), task=Task.REGRESSION)
    modelcache.OF_THIS_PROCESS._held[job.model] = Predictor(Touchy(bound), job.card)
    return job


def test_rows_that_make_the_model_fail_are_found(tmp_path: Path) -> None:
    frame = prices(3000).drop(columns="y")
    frame.loc[[5, 1700, 1701], "a"] = 1000.0
    job = touchy(tmp_path, frame)
    report, result = job.run(batch_plan(on_bad_row=OnBadRow.REJECT))
    rejects = pq.read_table(tmp_path / "shard-0" / names.rejects_file(0)).to_pylist()
    assert [one["row"] for one in rejects] == [5, 1700, 1701]
    assert rejects[0]["reason"] == "the model failed: ValueError: beyond all bounds"
    assert report.rejected_rows == 3
    np.testing.assert_array_equal(result["prediction"], frame["a"].drop([5, 1700, 1701]))
    assert result["row"].tolist() == [row for row in range(3000) if row not in (5, 1700, 1701)]


def test_the_first_row_that_makes_the_model_fail_is_named(tmp_path: Path) -> None:
    frame = prices(3000).drop(columns="y")
    frame.loc[[900, 1700], "b"] = 1000.0
    job = touchy(tmp_path, frame)
    plan = batch_plan()
    with pytest.raises(DataInvalid, match=r"row 900 .* the model failed: ValueError: beyond all bounds"):
        job.shard(plan, job.plan(plan), 0)


def test_a_model_that_fails_whatever_the_row_is_no_matter_of_rows(tmp_path: Path) -> None:
    job = touchy(tmp_path, prices(3000), bound=-1000.0)
    plan = batch_plan(on_bad_row=OnBadRow.REJECT)
    with pytest.raises(
        FitFailed, match="predict failed: the model fails on every row that was tried: beyond"
    ) as caught:
        job.shard(plan, job.plan(plan), 0)
    assert (caught.value.error_class, caught.value.step) == ("ValueError", names.shard_step(0))


def test_a_model_that_holds_too_much_for_a_block_is_given_less_at_a_time(tmp_path: Path) -> None:
    asked: list[int] = []

    class Greedy(Touchy):
        def predict(self, features: Any) -> Any:
            asked.append(len(features))
            if len(features) > most:
                raise MemoryError("no room for a kernel")
            return super().predict(features)

    frame = prices(3000).drop(columns="y")
    job = touchy(tmp_path, frame)
    plan, most = batch_plan(), 1000
    modelcache.OF_THIS_PROCESS._held[job.model] = Predictor(Greedy(100.0), job.card)
    _, result = job.run(plan)
    np.testing.assert_array_equal(result["prediction"], frame["a"])
    assert asked == [3000, 1500, 750, 750, 750, 750]
    most = 100
    again = replace(job, directory=tmp_path / "again")
    again.directory.mkdir()
    with pytest.raises(MemoryLimitExceeded):
        again.shard(plan, again.plan(plan), 0)


def test_the_search_for_bad_rows_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(careful, "MAX_CALLS", 50)
    frame = prices(3000).drop(columns="y")
    frame.loc[1:1400:2, "a"] = 1000.0
    job = touchy(tmp_path, frame)
    plan = batch_plan(on_bad_row=OnBadRow.REJECT)
    with pytest.raises(FitFailed, match="too many rows make the model fail"):
        job.shard(plan, job.plan(plan), 0)


def test_a_shard_of_bad_rows_alone_leaves_an_empty_file_with_its_columns(tmp_path: Path) -> None:
    job = batch(tmp_path, flowers(20).assign(a=np.inf))
    report, result = job.run(batch_plan(outputs=(PREDICT, PROBA), carry=("y",), on_bad_row=OnBadRow.REJECT))
    assert report.rejected_rows == 20
    assert list(result.columns) == ["row", "y", "prediction", *(f"probability[{c}]" for c in ("iris", "rose", "tulip"))]
    assert len(result) == 0


# --- what is said of it --------------------------------------------------------------------------


def test_progress_counts_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "MAX_BLOCK_ROWS", 40)
    monkeypatch.setattr(predict, "MIN_BLOCK_ROWS", 1)
    job = batch(tmp_path, flowers(100), row_group_size=100)
    said: list[tuple[float | None, dict[str, float]]] = []
    plan = batch_plan()
    job.shard(plan, job.plan(plan), 0, lambda fraction, message="", **values: said.append((fraction, values)))
    assert [values["rows"] for _, values in said if values] == [40, 80, 100, 100]
    assert [fraction for fraction, _ in said] == [0.0, 0.4, 0.8, 1.0, 1.0]


def test_drift_is_reported_over_all_shards(tmp_path: Path) -> None:
    frame = flowers(600, seed=1)
    frame["a"] += 5.0
    frame.loc[::10, "noise"] = np.nan
    job = batch(tmp_path, frame)
    report, _ = job.run(batch_plan(rows_per_shard=250, on_bad_row=OnBadRow.REJECT))
    drift = {one.feature: one for one in report.drift}
    assert list(drift) == FEATURES
    assert drift["a"].psi > 1.0
    assert drift["a"].unseen_share > 0.3
    assert drift["b"].psi < 0.4
    assert drift["noise"].missing_share == pytest.approx(0.1)
    assert drift["noise"].reference_missing_share == 0.0


def test_the_children_keep_the_model_between_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    load = Predictor.load

    def counting(directory: Path) -> Predictor:
        loaded.append(directory)
        return load(directory)

    monkeypatch.setattr(Predictor, "load", counting)
    job = batch(tmp_path, flowers(100))
    job.run(batch_plan(rows_per_shard=30))
    assert loaded == [job.model]


def test_shards_out_of_order_are_not_summed_up(tmp_path: Path) -> None:
    job = batch(tmp_path, flowers(100))
    plan = batch_plan(rows_per_shard=50)
    listed = job.plan(plan)
    assert listed.shards == (ShardRange(start=0, stop=50), ShardRange(start=50, stop=100))
    job.shard(plan, listed, 1)
    call = SummariseCall(
        plan=plan, card=job.card, shards=(tmp_path / "shard-1" / SHARD_FILE,), warnings=(), out=tmp_path
    )
    with pytest.raises(Exception, match="not complete"):
        summarise(call, silent)


def test_a_column_whose_name_holds_dots_and_brackets_is_carried(tmp_path: Path) -> None:
    job = batch(tmp_path, flowers().assign(**{"x.y[0]": "same", "x": "other"}))
    _, result = job.run(batch_plan(carry=("*",), read_options=ReadOptions()))
    assert result["x.y[0]"].tolist() == ["same"] * 150
    assert result["x"].tolist() == ["other"] * 150


def test_predictions_are_scored_against_a_column_over_all_shards(tmp_path: Path) -> None:
    frame = flowers(300, seed=4)
    frame.loc[::7, "y"] = None
    job = batch(tmp_path, frame)
    report, result = job.run(batch_plan(outputs=(PROBA,), target="y", rows_per_shard=110))
    known = frame["y"].notna().to_numpy()
    truth, features = frame["y"][known], frame[FEATURES][known]
    assert report.scored_rows == known.sum()
    assert report.scores["accuracy"] == pytest.approx(accuracy_score(truth, job.theirs.predict(features)))
    assert report.scores["log_loss"] == pytest.approx(log_loss(truth, job.theirs.predict_proba(features)))
    # What the score needed is no part of the result, unless it was asked for.
    assert "prediction" not in result.columns


def test_a_regression_is_scored_too(tmp_path: Path) -> None:
    frame = prices(300, seed=4)
    job = batch(tmp_path, frame, model=LinearRegression(), training=prices(), task=Task.REGRESSION)
    report, _ = job.run(batch_plan(target="y", rows_per_shard=110))
    assert report.scores["r2"] == pytest.approx(r2_score(frame["y"], job.theirs.predict(frame[FEATURES])))
    assert report.columns == {"row": "int64", "prediction": "double"}
