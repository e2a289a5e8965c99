from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from mlops import errors, names
from mlops.storage.objects import ObjectStore
from mlops.storage.sources import SourceRoots
from tests.fixtures.s3 import S3

BIG = 1024**3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    opened = ObjectStore.open((tmp_path / "store").as_uri())
    yield opened
    opened.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory with a folder for each of two tenants."""
    for tenant in ("acme", "globex"):
        (tmp_path / "data" / tenant).mkdir(parents=True)
        (tmp_path / "data" / tenant / "x y.csv").write_text(f"a,b\n1,{tenant}\n")
    return tmp_path / "data"


@pytest.fixture
def roots(data: Path) -> SourceRoots:
    return SourceRoots((f"file://{data}/{{tenant}}", "s3://shared/in/{tenant}/", "s3://public"))


@pytest.mark.parametrize(
    "uri",
    [
        "file://{data}/acme/x%20y.csv",
        "file://localhost{data}/acme/x%20y.csv",
        "FILE://{data}/acme/x%20y.csv",
        "{data}/acme/x y.csv",
        "s3://shared/in/acme/deep/x.csv",
        "s3://public/anything",
    ],
)
def test_what_is_below_a_root_is_allowed(roots: SourceRoots, data: Path, uri: str) -> None:
    roots.check("acme", uri.format(data=data))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "x.csv",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://other-host{data}/acme/x.csv",
        "{data}/globex/x y.csv",
        "{data}/acme2/x.csv",
        "{data}/acme/../globex/x y.csv",
        "file://{data}/acme/%2e%2e/globex/x%20y.csv",
        "file://{data}/acme/..%2fglobex/x%20y.csv",
        "{data}/acme/./x.csv",
        "{data}/acme//x.csv",
        "{data}/acme/x\0.csv",
        "s3://shared/in/globex/x.csv",
        "s3://shared/in/acmex.csv",
        "s3://shared/x.csv",
        "s3://shared/in/acme/../globex/x.csv",
        "s3://shared/in/acme/%2e%2e/globex/x.csv",
        "s3://shared/in/ac%6De/x.csv",
        "s3://",
        "s3a://public/x",
        "http://public/x",
        "simplecache::s3://public/x",
        "zip://x::s3://public/x.zip",
        "s3://public/x::y",
    ],
)
def test_what_is_not_below_a_root_is_refused_by_the_field(roots: SourceRoots, data: Path, uri: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        roots.check("acme", uri.format(data=data))
    assert set(caught.value.violations) == {"uri"}


def test_without_roots_nothing_is_allowed() -> None:
    with pytest.raises(errors.InvalidRequest, match="upload the file instead"):
        SourceRoots(()).check("acme", "s3://public/x")


@pytest.mark.parametrize("root", ["relative/path", "s3://", "file://host/x", "s3://a/../b"])
def test_a_root_that_is_none_is_refused_at_start(root: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        SourceRoots((root,))
    assert set(caught.value.violations) == {"source_roots"}


def test_a_link_out_of_the_root_is_refused(roots: SourceRoots, data: Path) -> None:
    (data / "acme" / "link.csv").symlink_to(data / "globex" / "x y.csv")
    (data / "acme" / "dir").symlink_to(data / "globex")
    (data / "acme" / "inside.csv").symlink_to(data / "acme" / "x y.csv")
    for name in ("link.csv", "dir/x y.csv"):
        with pytest.raises(errors.InvalidRequest):
            roots.check("acme", f"{data}/acme/{name}")
    roots.check("acme", f"{data}/acme/inside.csv")


def test_a_root_that_is_itself_a_link_works(data: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(data)
    SourceRoots((f"{tmp_path}/alias",)).check("acme", f"{tmp_path}/alias/acme/x y.csv")


async def test_the_same_bytes_are_copied_in_once(roots: SourceRoots, data: Path, store: ObjectStore) -> None:
    content = (data / "acme" / "x y.csv").read_bytes()
    for _ in range(2):
        source = await roots.copy_in("acme", f"{data}/acme/x y.csv", store, max_bytes=BIG)
        assert source.sha256 == hashlib.sha256(content).hexdigest()
        assert source.size_bytes == len(content)
        assert await store.list() == [names.blob_key("acme", source.sha256)]
    assert await store.read_bytes(names.blob_key("acme", source.sha256)) == content


async def test_a_source_over_the_limit_leaves_nothing(roots: SourceRoots, data: Path, store: ObjectStore) -> None:
    with pytest.raises(errors.QuotaExceeded) as caught:
        await roots.copy_in("acme", f"{data}/acme/x y.csv", store, max_bytes=5)
    assert caught.value.limit == "max_dataset_bytes"
    assert await store.list() == []


async def test_a_source_that_is_not_there_is_not_found(roots: SourceRoots, data: Path, store: ObjectStore) -> None:
    for name in ("missing.csv", "x y.csv/below"):
        with pytest.raises(errors.NotFound):
            await roots.copy_in("acme", f"{data}/acme/{name}", store, max_bytes=BIG)


async def test_directories_and_pipes_are_refused(roots: SourceRoots, data: Path, store: ObjectStore) -> None:
    os.mkfifo(data / "acme" / "pipe")
    for name in ("pipe", ""):
        with pytest.raises(errors.InvalidRequest):
            await roots.copy_in("acme", f"{data}/acme/{name}", store, max_bytes=BIG)


async def test_a_link_that_appears_after_the_check_is_not_followed(
    roots: SourceRoots, data: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, folder = f"{data}/acme/sub/x y.csv", data / "acme" / "sub"
    folder.mkdir()
    (folder / "x y.csv").write_text("mine")
    open_descriptor = os.open

    def swapping(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if not folder.is_symlink():
            folder.rename(data / "acme" / "moved")
            folder.symlink_to(data / "globex")
        return open_descriptor(path, flags, mode)

    monkeypatch.setattr("mlops.storage.sources.os.open", swapping)
    with pytest.raises(errors.InvalidRequest):
        await roots.copy_in("acme", uri, store, max_bytes=BIG)
    assert await store.list("tenants") == []


async def test_a_source_in_a_bucket_is_copied_in(s3: S3, store: ObjectStore) -> None:
    bucket = s3.bucket()
    system = fsspec.filesystem("s3", **s3.options)
    content = bytes(range(256)) * 50_000
    system.pipe_file(f"{bucket}/acme/x%20y.bin", content)
    roots = SourceRoots((f"s3://{bucket}/{{tenant}}",), s3.options)
    source = await roots.copy_in("acme", f"s3://{bucket}/acme/x%20y.bin", store, max_bytes=BIG)
    assert await store.read_bytes(names.blob_key("acme", source.sha256)) == content
    with pytest.raises(errors.NotFound):
        await roots.copy_in("acme", f"s3://{bucket}/acme/missing", store, max_bytes=BIG)
    with pytest.raises(errors.InvalidRequest):
        await roots.copy_in("acme", f"s3://{bucket}/acme", store, max_bytes=BIG)
    with pytest.raises(errors.InvalidRequest):
        await roots.copy_in("globex", f"s3://{bucket}/acme/x%20y.bin", store, max_bytes=BIG)
