"""Two trainings at once, both watched live by one asyncio program.

Run it against `mlops up`, with MLOPS_ADDRESS and MLOPS_API_KEY exported.
"""

from __future__ import annotations

import asyncio

from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor

import mlops
from mlops.client import AsyncJobHandle
from mlops.jobs.report import TrainingResult

ESTIMATORS = {
    "boosting": GradientBoostingRegressor(n_estimators=150, max_depth=2),
    "forest": RandomForestRegressor(n_estimators=150, min_samples_leaf=5),
}


async def follow(name: str, job: AsyncJobHandle) -> TrainingResult:
    """Prints what happens to a job as it happens, and gives its result."""
    async for event in job.watch():
        if event.state:
            print(f"{name:9} {event.state}")
        elif event.step and event.step.fraction is not None:
            print(f"{name:9} {event.step.step} {event.step.fraction:.0%} {event.step.message}")
        elif event.metrics:
            print(f"{name:9} {event.metrics_step}: r2 {event.metrics['r2']:.3f}")
    return await job.wait()


async def main() -> None:
    async with mlops.AsyncClient() as client:
        dataset = await client.datasets.upload(load_diabetes(as_frame=True).frame, name="diabetes")
        jobs = [
            await client.train(estimator, dataset, target="target", name=f"progression-{name}", folds=3)
            for name, estimator in ESTIMATORS.items()
        ]
        results = await asyncio.gather(*(follow(name, job) for name, job in zip(ESTIMATORS, jobs, strict=True)))
        means = {
            name: next(metric.mean for metric in result.report.cross_validation if metric.name == "r2")
            for name, result in zip(ESTIMATORS, results, strict=True)
        }
        best = max(means, key=lambda name: means[name])
        print(f"best: {best}, r2 {means[best]:.3f}")


if __name__ == "__main__":
    asyncio.run(main())
