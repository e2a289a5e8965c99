"""The model repository, over a tracker in memory and a store on disk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pytest

from mlops import names
from mlops.errors import FailedPrecondition, NotFound
from mlops.jobs.card import FeatureSpec, LabelType, ModelCard
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.model import ModelVersion, Signature, SignatureColumn
from mlops.jobs.training import Task
from mlops.repository.repository import ModelRepository, model_id_of
from mlops.storage.objects import ObjectStore
from mlops.tracking.protocol import ModelFiles
from tests.fixtures.tracking import MemoryTracking

TENANT = "acme"
CONTENT = b"the model" * 100_000
CARD = ModelCard(
    task=Task.REGRESSION,
    target="y",
    features=(FeatureSpec(name="a", kind=ColumnKind.NUMERIC),),
    label_type=LabelType.DOUBLE,
    size_bytes=len(CONTENT),
)
SIGNATURE = Signature(
    inputs=(SignatureColumn(name="a", type="double"), SignatureColumn(name="b", type="string", required=False)),
    outputs=(SignatureColumn(name="y", type="double"),),
)


class CountingTracking(MemoryTracking):
    """Notes which files are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.add(TENANT)

    async def model_file(self, tenant: str, version: ModelVersion, name: str) -> AsyncGenerator[bytes, None]:
        self.read.append(name)
        async for chunk in super().model_file(tenant, version, name):
            yield chunk


@pytest.fixture
def tracking() -> CountingTracking:
    return CountingTracking()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.open((tmp_path / "store").as_uri())


@pytest.fixture
def repository(store: ObjectStore, tracking: CountingTracking) -> ModelRepository:
    return ModelRepository(store, tracking)


async def register(
    tracking: MemoryTracking,
    tmp_path: Path,
    extras: Mapping[str, bytes] = MappingProxyType({}),
    *,
    job_id: str = "train-1",
    signature: Signature = SIGNATURE,
) -> None:
    file = tmp_path / "model.skops"
    file.write_bytes(CONTENT)
    run = await tracking.start_run(
        TENANT,
        job_id=job_id,
        experiment="m",
        run_name="m",
        tags={},
        params={},
        started_at=datetime.now(UTC),
    )
    model = await tracking.log_model(
        TENANT,
        run,
        job_id=job_id,
        model=ModelFiles(
            file=file,
            signature=signature,
            input_example=None,
            trusted_types=(),
            versions={},
            extras=dict(extras),
        ),
        params={},
        tags={},
    )
    await tracking.register_version(
        TENANT, model_name="m", model=model, run_id=run.run_id, job_id=job_id, tags={names.TAG_JOB: job_id}
    )


async def test_a_model_is_fetched_once_with_its_card_and_its_export(
    repository: ModelRepository, tracking: CountingTracking, store: ObjectStore, tmp_path: Path
) -> None:
    extras = {
        names.CARD_FILE: CARD.model_dump_json().encode(),
        names.ONNX_FILE: b"onnx",
        names.ONNX_NOTES_FILE: b"{}",
    }
    await register(tracking, tmp_path, extras)
    version = await repository.resolve(TENANT, "m", None)
    staged = await repository.stage(TENANT, version)
    assert (staged.card, staged.has_onnx) == (CARD, True)
    assert await store.read_bytes(names.model_key(TENANT, staged.model_id, names.STEP_MODEL)) == CONTENT
    assert await store.read_bytes(names.model_key(TENANT, staged.model_id, names.ONNX_FILE)) == b"onnx"
    read = len(tracking.read)
    assert await repository.stage(TENANT, version) == staged
    assert await ModelRepository(store, tracking).stage(TENANT, version) == staged, "from storage, by another process"
    assert len(tracking.read) == read


async def test_a_model_without_a_card_is_described_by_its_signature(
    repository: ModelRepository, tracking: CountingTracking, tmp_path: Path
) -> None:
    await register(tracking, tmp_path)
    staged = await repository.stage(TENANT, await repository.resolve(TENANT, "m", 1))
    assert [(feature.name, feature.kind, feature.required) for feature in staged.card.features] == [
        ("a", ColumnKind.NUMERIC, True),
        ("b", ColumnKind.CATEGORICAL, False),
    ]
    assert staged.card.size_bytes == len(CONTENT)
    assert not staged.has_onnx


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"card.json": b"{}"}, "card.json that is none"),
        ({"MLmodel": b"flavors: {sklearn: {serialization_format: cloudpickle}}"}, "skops"),
        ({"MLmodel": b"flavors: {pytorch: {}}"}, "skops"),
    ],
)
async def test_a_model_that_cannot_be_loaded_here_is_refused_and_leaves_no_card(
    repository: ModelRepository,
    tracking: CountingTracking,
    store: ObjectStore,
    tmp_path: Path,
    files: dict[str, bytes],
    said: str,
) -> None:
    await register(tracking, tmp_path, files)
    version = await repository.resolve(TENANT, "m", 1)
    with pytest.raises(FailedPrecondition, match=said):
        await repository.stage(TENANT, version)
    assert not await store.exists(names.model_key(TENANT, model_id_of(version), names.CARD_FILE))


async def test_a_model_without_named_columns_is_refused(
    repository: ModelRepository, tracking: CountingTracking, tmp_path: Path
) -> None:
    await register(tracking, tmp_path, signature=Signature())
    with pytest.raises(FailedPrecondition, match="signature"):
        await repository.stage(TENANT, await repository.resolve(TENANT, "m", 1))


async def test_the_champion_comes_before_the_newest_version(
    repository: ModelRepository, tracking: CountingTracking, tmp_path: Path
) -> None:
    for job_id in ("train-1", "train-2"):
        await register(tracking, tmp_path, job_id=job_id)
    assert (await repository.resolve(TENANT, "m", None)).version == 2
    tracking.of(TENANT).registered["m"].aliases["champion"] = 1
    assert (await repository.resolve(TENANT, "m", None)).version == 1
    assert (await repository.resolve(TENANT, "m", "champion")).version == 1
    assert (await repository.resolve(TENANT, "m", 2)).version == 2
    for unknown in ("challenger", 3):
        with pytest.raises(NotFound):
            await repository.resolve(TENANT, "m", unknown)
    with pytest.raises(NotFound):
        await repository.resolve(TENANT, "n", None)


def test_only_an_id_that_the_tracker_gave_names_a_place_in_storage() -> None:
    def of(source: str) -> str:
        return model_id_of(
            ModelVersion(
                model_name="m",
                version=1,
                created_at=datetime.now(UTC),
                job_id="",
                run_id="",
                owner="",
                dataset_id="",
                dataset_sha256="",
                estimator="",
                task="",
                artifact_uri=source,
            )
        )

    assert of("models:/m-0123456789abcdef") == "m-0123456789abcdef"
    for hostile in ("models:/m-../../x", "models:/../other/models/m-0123456789abcdef", "runs:/r/model", ""):
        assert of(hostile).startswith("x-")
        assert "/" not in of(hostile)
