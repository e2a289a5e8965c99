from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops import errors
from mlops.storage.cache import HostCache
from mlops.storage.disk import ABANDONED_SECONDS
from mlops.storage.objects import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    opened = ObjectStore.open((tmp_path / "store").as_uri())
    yield opened
    opened.close()


def cached(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*") if path.is_file()}


def count_downloads(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    downloads: list[str] = []
    get_file = store.get_file

    async def counting(key: str, path: Path, *, share: bool = False) -> None:
        downloads.append(key)
        await asyncio.sleep(0.05)
        await get_file(key, path, share=share)

    monkeypatch.setattr(store, "get_file", counting)
    return downloads


async def test_many_who_ask_at_once_share_one_download(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write_bytes("d/a", b"abc")
    downloads = count_downloads(store, monkeypatch)
    cache = HostCache(tmp_path / "cache", 100)
    paths = await asyncio.gather(*(cache.fetch(store, "d/a") for _ in range(20)))
    assert {path.read_bytes() for path in paths} == {b"abc"}
    await cache.fetch(store, "d/a")
    assert downloads == ["d/a"]


async def test_one_who_goes_away_does_not_stop_the_others_download(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write_bytes("d/a", b"abc")
    downloads = count_downloads(store, monkeypatch)
    cache = HostCache(tmp_path / "cache", 100)
    first, second = (asyncio.create_task(cache.fetch(store, "d/a")) for _ in range(2))
    async with asyncio.timeout(10):
        while not downloads:
            await asyncio.sleep(0)
    first.cancel()
    assert (await second).read_bytes() == b"abc"
    assert first.cancelled()
    assert downloads == ["d/a"]


async def test_a_failed_download_is_tried_again(store: ObjectStore, tmp_path: Path) -> None:
    cache = HostCache(tmp_path / "cache", 100)
    for _ in range(2):
        with pytest.raises(errors.NotFound):
            await cache.fetch(store, "d/a")
    await store.write_bytes("d/a", b"abc")
    assert (await cache.fetch(store, "d/a")).read_bytes() == b"abc"


async def test_what_was_used_longest_ago_is_evicted_first(store: ObjectStore, tmp_path: Path) -> None:
    cache = HostCache(tmp_path / "cache", 25)
    for name in "abcd":
        await store.write_bytes(f"d/{name}", bytes(10))
    for age, name in ((300, "a"), (200, "b")):
        path = await cache.fetch(store, f"d/{name}")
        os.utime(path, (time.time() - age, time.time() - age))
    await cache.fetch(store, "d/a")
    await cache.fetch(store, "d/c")
    assert cached(tmp_path / "cache") == {"a", "c"}


async def test_what_is_in_use_is_never_evicted(store: ObjectStore, tmp_path: Path) -> None:
    cache = HostCache(tmp_path / "cache", 15)
    for name in "abc":
        await store.write_bytes(f"d/{name}", bytes(10))
    async with cache.hold(store, "d/a") as held:
        async with cache.hold(store, "d/a"), cache.hold(store, "d/b"):
            assert cached(tmp_path / "cache") == {"a", "b"}
        await cache.fetch(store, "d/c")
        assert held.read_bytes() == bytes(10)
    assert "c" in cached(tmp_path / "cache")


async def test_a_cache_of_nothing_keeps_nothing_that_is_not_in_use(store: ObjectStore, tmp_path: Path) -> None:
    cache = HostCache(tmp_path / "cache", 0)
    await store.write_bytes("d/a", b"abc")
    async with cache.hold(store, "d/a") as path:
        assert path.read_bytes() == b"abc"
    assert cached(tmp_path / "cache") == set()


async def test_another_process_keeps_its_files_too(store: ObjectStore, tmp_path: Path) -> None:
    await store.write_bytes("d/a", b"abc")
    await store.write_bytes("d/b", b"abc")
    holder = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from mlops.storage.cache import HostCache
        from mlops.storage.objects import ObjectStore

        async def main():
            cache = HostCache(Path(sys.argv[2]), 0)
            async with cache.hold(ObjectStore.open(sys.argv[1]), "d/a"):
                print("held", flush=True)
                await asyncio.to_thread(sys.stdin.readline)

        asyncio.run(main())
    """)
    uri, directory = (tmp_path / "store").as_uri(), tmp_path / "cache"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", holder, uri, str(directory), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"held\n"
        async with HostCache(directory, 0).hold(store, "d/b"):
            pass
        assert cached(directory) == {"a"}
    finally:
        await asyncio.wait_for(process.communicate(b"\n"), 60)
    assert process.returncode == 0
    assert cached(directory) == set()


async def test_what_a_killed_download_left_is_removed_after_a_day(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write_bytes("d/a", b"abc")
    (tmp_path / "cache" / "d").mkdir(parents=True)
    (tmp_path / "cache" / "d" / ".dead.part").write_bytes(bytes(1000))
    cache = HostCache(tmp_path / "cache", 100)
    await cache.fetch(store, "d/a")
    assert cached(tmp_path / "cache") == {"a", ".dead.part"}
    now = time.time()
    monkeypatch.setattr("mlops.storage.cache.time.time", lambda: now + ABANDONED_SECONDS + 1)
    async with cache.hold(store, "d/a"):
        pass
    assert cached(tmp_path / "cache") == {"a"}
