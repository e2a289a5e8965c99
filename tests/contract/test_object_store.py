"""One suite over every medium that an object store may be made of."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mlops import errors, names
from mlops.storage.objects import ObjectStore
from tests.fixtures.s3 import S3

# Larger than two parts of a multipart upload.
LARGE = 40 * 1024**2


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "file":
        opened = ObjectStore.open((tmp_path / "store with space").as_uri())
    else:
        s3: S3 = request.getfixturevalue("s3")
        opened = ObjectStore.open(f"s3://{s3.bucket()}/below/here", s3.options)
    yield opened
    opened.close()


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def test_what_was_written_is_read_back(store: ObjectStore) -> None:
    await store.write_bytes("a/b", b"first")
    await store.write_bytes("a/b", b"second")
    assert await store.read_bytes("a/b") == b"second"
    assert await store.size("a/b") == 6
    assert await store.exists("a/b")


async def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    await store.write_bytes("empty", b"")
    async with store.open_upload("uploaded") as upload:
        await upload.commit()
    for key in ("empty", "uploaded"):
        assert await store.read_bytes(key) == b""
        assert await store.size(key) == 0
        assert [chunk async for chunk in store.read_chunks(key)] == []


async def test_what_is_missing_is_not_found_by_its_key(store: ObjectStore, tmp_path: Path) -> None:
    await store.write_bytes("a/b/c", b"x")
    for key in ("nothing", "a/b", "a/b/c/d"):
        assert not await store.exists(key)
        for call in (
            store.read_bytes(key),
            store.size(key),
            store.get_file(key, tmp_path / "got"),
            store.move(key, "elsewhere"),
            anext(store.read_chunks(key)),
        ):
            with pytest.raises(errors.NotFound) as caught:
                await call
            assert caught.value.resource_name == key
    assert not (tmp_path / "got").exists()
    assert await store.list() == ["a/b/c"]


@pytest.mark.parametrize("share", [False, True])
async def test_files_go_in_and_come_out(store: ObjectStore, tmp_path: Path, share: bool) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "target"
    source.write_bytes(bytes(range(256)) * 1000)
    await store.put_file("files/one", source)
    for _ in range(2):
        await store.get_file("files/one", target, share=share)
        assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["target"]


async def test_a_missing_local_file_is_the_callers_mistake(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await store.put_file("files/one", tmp_path / "missing")


async def test_a_move_replaces_and_leaves_nothing_behind(store: ObjectStore) -> None:
    await store.write_bytes("from", b"new")
    await store.write_bytes("deep/to", b"old")
    await store.move("from", "deep/to")
    assert await store.read_bytes("deep/to") == b"new"
    assert await store.list() == ["deep/to"]


async def test_a_prefix_is_made_of_whole_segments(store: ObjectStore) -> None:
    for key in ("t/a/1", "t/a/b/2", "t/ab/3", "t/a.x"):
        await store.write_bytes(key, b"x")
    assert await store.list("t/a") == ["t/a/1", "t/a/b/2"]
    assert await store.list("t/missing") == []
    await store.delete_prefix("t/a")
    assert await store.list() == ["t/a.x", "t/ab/3"]


async def test_deleting_twice_is_deleting_once(store: ObjectStore) -> None:
    await store.write_bytes("a/b", b"x")
    for _ in range(2):
        await store.delete("a/b")
        await store.delete_prefix("a")
    assert await store.list() == []


async def test_a_directory_arrives_with_its_marker_last(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "plots/roc.png", "result.json", "z"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(name)
    stored: list[str] = []
    put_file = store.put_file

    async def recording(key: str, path: Path) -> None:
        await put_file(key, path)
        stored.append(key)

    monkeypatch.setattr(store, "put_file", recording)
    await store.put_dir("jobs/j", tmp_path / "out", last="result.json")
    assert stored[-1] == "jobs/j/result.json"
    assert await store.list("jobs/j") == sorted(stored)
    assert await store.read_bytes("jobs/j/plots/roc.png") == b"plots/roc.png"


async def test_a_directory_without_its_marker_is_not_stored(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(FileNotFoundError):
        await store.put_dir("jobs/j", tmp_path, last="result.json")
    assert await store.list("jobs") == []


async def test_an_upload_is_hashed_and_appears_at_its_commit(store: ObjectStore) -> None:
    block = bytes(range(256)) * 4096
    digest = hashlib.sha256()
    async with store.open_upload("big") as upload:
        for _ in range(LARGE // len(block)):
            await upload.write(block)
            digest.update(block)
        assert not await store.exists("big")
        source = await upload.commit()
    assert (source.sha256, source.size_bytes) == (digest.hexdigest(), LARGE)
    assert await store.size("big") == LARGE
    again = hashlib.sha256()
    sizes = []
    async for chunk in store.read_chunks("big", 3_000_000):
        again.update(chunk)
        sizes.append(len(chunk))
    assert again.hexdigest() == source.sha256
    assert set(sizes[:-1]) == {3_000_000}


@pytest.mark.parametrize("size", [10, LARGE])
async def test_an_upload_without_commit_leaves_nothing(
    store: ObjectStore, size: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async def break_off() -> None:
        async with store.open_upload("gone") as upload:
            await upload.write(bytes(size))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert await store.list() == []
    assert files_below(tmp_path) == []
    if "s3" in request.node.callspec.id:
        s3: S3 = request.getfixturevalue("s3")
        system: Any = fsspec.filesystem("s3", **s3.options)
        assert not any(system.list_multipart_uploads(bucket) for bucket in system.ls(""))


async def test_a_cancelled_upload_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    started = asyncio.Event()

    async def send() -> None:
        async with store.open_upload("gone") as upload:
            while True:
                await upload.write(bytes(1024**2))
                started.set()

    task = asyncio.create_task(send())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.list() == []
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/.", "a/", "a\\b", "a*", "a\nb", ".incoming/x"]
)
async def test_no_key_leads_out_of_the_store(store: ObjectStore, key: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for call in (
        store.read_bytes(key),
        store.write_bytes(key, b"x"),
        store.put_file(key, tmp_path / "file"),
        store.get_file(key, tmp_path / "got"),
        store.size(key),
        store.exists(key),
        store.delete(key),
        store.delete_prefix(key),
        store.move("fine", key),
    ):
        with pytest.raises(errors.InvalidRequest):
            await call
    with pytest.raises(errors.InvalidRequest):
        store.open_upload(key)


async def test_every_key_that_names_builds_is_taken(store: ObjectStore) -> None:
    keys = [
        names.blob_key("acme", "0" * 64),
        names.staging_key("acme", "u1"),
        names.dataset_key("acme", "ds-1"),
        names.dataset_preview_key("acme", "ds-1"),
        names.step_key("acme", "job-1", "fold-0", "plots/roc.png"),
    ]
    for key in keys:
        await store.write_bytes(key, b"x")
    assert await store.list(names.tenant_prefix("acme")) == sorted(keys)


async def test_many_writers_and_a_deletion_meet_without_an_error(store: ObjectStore) -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(store.write_bytes(f"p/{number % 3}/{number}", b"x"))
            if number % 10 == 0:
                group.create_task(store.delete_prefix("p"))
    await store.delete_prefix("p")
    assert await store.list() == []


async def test_a_bucket_that_does_not_answer_is_storage_unavailable(unused_tcp_port: int) -> None:
    options = {"key": "k", "secret": "s", "endpoint_url": f"http://127.0.0.1:{unused_tcp_port}"}
    away = ObjectStore.open("s3://bucket/x", options)
    with pytest.raises(errors.StorageUnavailable):
        await away.read_bytes("key")
    away.close()


async def test_a_bucket_that_refuses_the_credentials_is_storage_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    nobody = ObjectStore.open("s3://bucket/x", {"endpoint_url": "http://127.0.0.1:9", "skip_instance_cache": True})
    with pytest.raises(errors.StorageUnavailable):
        await nobody.write_bytes("key", b"x")
    nobody.close()


async def test_a_full_or_broken_disk_is_storage_unavailable_and_hides_its_paths(tmp_path: Path) -> None:
    broken = ObjectStore.open(tmp_path.as_uri())
    (tmp_path / ".incoming").rmdir()
    (tmp_path / "a").write_text("a file where a directory is to be")
    with pytest.raises(errors.MlopsError) as caught:
        await broken.write_bytes("b", b"x")
    assert str(tmp_path) not in caught.value.message
    broken.close()


@pytest.mark.parametrize("url", ["relative/path", "file://other-host/srv", "nosuchscheme://x"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        ObjectStore.open(url)
