"""The CPU activities of batch inference: shards are planned once, predicted each for itself, and summed up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from temporalio import activity

from mlops import names
from mlops.activities.failures import translated
from mlops.activities.host import CpuSteps, Limits
from mlops.activities.plans import read_batch_plan
from mlops.jobs.card import ModelCard
from mlops.jobs.inference import (
    BatchInferencePlan,
    BatchOrder,
    BatchReport,
    ShardDone,
    ShardFound,
    ShardList,
    ShardOrder,
    ShardsPlanned,
)
from mlops.ml.batch.plan import PlanShardsCall, plan_shards
from mlops.ml.batch.predict import SHARD_FILE, ShardCall, predict_shard
from mlops.ml.batch.summary import SummariseCall, summarise
from mlops.ml.ingest import DATA_FILE
from mlops.workflows import stubs

# Of the shards' findings, how many are fetched at once.
FILES_AT_ONCE = 32
# A job's time limit is a shard's. Reading or converting all of the input may take longer.
WHOLE_INPUT_TIME_LIMIT = timedelta(hours=6)


class BatchCpuWork(CpuSteps, stubs.BatchCpuActivities):
    """The CPU activities of one tenant's batch jobs."""

    @activity.defn
    async def plan_shards(self, order: BatchOrder) -> ShardsPlanned:
        """Looks at the input, holds it against the model, and cuts it into shards, once a job."""
        with translated(order.step):
            self._check(order.tenant)
            key = names.shard_list_key(order.tenant, order.job_id)
            listed = await self._stored(key, ShardList)
            if listed is None:
                plan = await read_batch_plan(self._host.store, order)
                card = await self._card(order.tenant, plan)
                async with self._work(order.step) as (out, beat), self._source(order, plan) as source:
                    call = PlanShardsCall(
                        plan=plan, card=card, source=source, is_canonical=plan.dataset_id is not None, out=out
                    )
                    listed = (await self._run(plan_shards, call, _of_whole_input(plan), beat)).value
                    if (out / DATA_FILE).exists():
                        await self._put_file(
                            names.batch_data_key(order.tenant, order.job_id, order.plan_sha256), out / DATA_FILE
                        )
                    await self._write(key, listed)
            return ShardsPlanned(shards=len(listed.shards), rows=listed.rows)

    @activity.defn
    async def predict_shard(self, order: ShardOrder) -> ShardDone:
        """Predicts one shard; one that is in storage already is not done again."""
        batch, shard = order.order, order.shard
        with translated(batch.step):
            self._check(batch.tenant)
            key = names.shard_result_key(batch.tenant, batch.job_id, shard)
            found = await self._stored(key, ShardFound)
            if found is None:
                plan, listed = await asyncio.gather(
                    read_batch_plan(self._host.store, batch),
                    self._read(names.shard_list_key(batch.tenant, batch.job_id), ShardList),
                )
                async with (
                    self._work(batch.step) as (out, beat),
                    self._input(batch, plan, listed) as source,
                    self._model(batch.tenant, plan.model_id) as model,
                ):
                    call = ShardCall(
                        plan=plan,
                        model=model,
                        source=source,
                        input_format=listed.input_format,
                        shard=shard,
                        rows=listed.shards[shard],
                        out=out,
                    )
                    outcome = await self._run(predict_shard, call, Limits.of(plan), beat, keeps_loaded=True)
                    found = outcome.value.model_copy(update={"peak_memory_bytes": outcome.peak_memory_bytes})
                    (out / SHARD_FILE).unlink(missing_ok=True)
                    await self._put(names.result_prefix(batch.tenant, batch.job_id), out, last=None)
                    await self._write(key, found)
            return ShardDone(shard=shard, rows=found.rows, rejected_rows=found.rejected_rows)

    @activity.defn
    async def summarise_batch(self, order: BatchOrder) -> None:
        """Makes the report out of what the shards left in storage."""
        with translated(order.step):
            self._check(order.tenant)
            key = names.step_key(order.tenant, order.job_id, order.step, names.STEP_REPORT)
            if await self._stored(key, BatchReport) is not None:
                return
            plan, listed = await asyncio.gather(
                read_batch_plan(self._host.store, order),
                self._read(names.shard_list_key(order.tenant, order.job_id), ShardList),
            )
            card = await self._card(order.tenant, plan)
            async with self._work(order.step) as (out, beat):
                found = await self._findings(order, len(listed.shards), out.parent / "shards")
                call = SummariseCall(plan=plan, card=card, shards=found, warnings=listed.warnings, out=out)
                outcome = await self._run(summarise, call, _of_whole_input(plan), beat)
                await self._write(key, outcome.value)

    def _source(self, order: BatchOrder, plan: BatchInferencePlan) -> AbstractAsyncContextManager[Path]:
        """The input as it was handed over: a dataset's canonical file, or what was taken from the URI."""
        if plan.dataset_id is not None:
            key = names.dataset_key(order.tenant, plan.dataset_id)
        else:
            key = names.batch_input_key(order.tenant, order.job_id, order.plan_sha256)
        return self._host.cache.hold(self._host.store, key)

    def _input(
        self, order: BatchOrder, plan: BatchInferencePlan, listed: ShardList
    ) -> AbstractAsyncContextManager[Path]:
        """What the shards are read from."""
        if plan.dataset_id is None and listed.is_converted:
            return self._host.cache.hold(
                self._host.store, names.batch_data_key(order.tenant, order.job_id, order.plan_sha256)
            )
        return self._source(order, plan)

    @asynccontextmanager
    async def _model(self, tenant: str, model_id: str) -> AsyncIterator[Path]:
        """The directory of the model's files, which stay there during the block."""
        files = [names.STEP_MODEL, names.CARD_FILE]
        if await self._host.store.exists(names.model_key(tenant, model_id, names.ONNX_NOTES_FILE)):
            files += [names.ONNX_FILE, names.ONNX_NOTES_FILE]
        async with AsyncExitStack() as stack:
            held = [
                await stack.enter_async_context(
                    self._host.cache.hold(self._host.store, names.model_key(tenant, model_id, file))
                )
                for file in files
            ]
            yield held[0].parent

    async def _card(self, tenant: str, plan: BatchInferencePlan) -> ModelCard:
        return await self._read(names.model_key(tenant, plan.model_id, names.CARD_FILE), ModelCard)

    async def _findings(self, order: BatchOrder, shards: int, into: Path) -> tuple[Path, ...]:
        """What each shard found, as files in the shards' order."""
        into.mkdir()
        gate = asyncio.Semaphore(FILES_AT_ONCE)

        async def fetch(shard: int) -> Path:
            async with gate:
                path = into / f"{shard:05d}.json"
                await self._host.store.get_file(names.shard_result_key(order.tenant, order.job_id, shard), path)
                return path

        return tuple(await asyncio.gather(*(fetch(shard) for shard in range(shards))))


def _of_whole_input(plan: BatchInferencePlan) -> Limits:
    """The limits of a step that has to do with all of the input."""
    return replace(Limits.of(plan), time_limit=max(plan.time_limit, WHOLE_INPUT_TIME_LIMIT))
