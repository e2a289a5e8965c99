"""Datasets are stored alike in SQLite and in PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from mlops import names
from mlops.errors import (
    InvalidRequest,
    NotFound,
)
from mlops.tenants.datasets import DatasetStore
from mlops.tenants.store import TenantStore
from tests.fixtures.database import START, Clock, active, dataset


async def test_a_dataset_comes_back_as_it_was_put(datasets: DatasetStore, acme: str) -> None:
    wanted = dataset("iris", labels={"stage": "prod"})
    assert await datasets.put(acme, wanted) == wanted
    assert await datasets.get(acme, wanted.id) == wanted
    assert await datasets.get(acme, "iris") == wanted


async def test_what_was_read_a_moment_ago_is_true_to_ones_own_changes(datasets: DatasetStore, acme: str) -> None:
    wanted = await datasets.put(acme, dataset("iris", content="one"))
    assert await datasets.get_recent(acme, wanted.id) == await datasets.get_recent(acme, "iris") == wanted
    other = await datasets.put(acme, dataset("iris", content="two"))
    assert (await datasets.get_recent(acme, "iris")).id == other.id
    labelled = await datasets.put(acme, dataset("iris", content="one", labels={"stage": "prod"}))
    assert (await datasets.get_recent(acme, wanted.id)).labels == labelled.labels == {"stage": "prod"}
    await datasets.delete(acme, wanted.id)
    with pytest.raises(NotFound):
        await datasets.get_recent(acme, wanted.id)


async def test_the_same_content_under_two_names_is_one_dataset_that_both_find(
    datasets: DatasetStore, clock: Clock, acme: str
) -> None:
    first = await datasets.put(acme, dataset("a", labels={"x": "1", "y": "1"}))
    clock.pass_time(timedelta(seconds=1))
    again = dataset("b", owner="bob", labels={"y": "2"}).model_copy(update={"created_at": clock.time})
    second = await datasets.put(acme, again)
    assert second == first.model_copy(update={"name": "b", "labels": {"x": "1", "y": "2"}})
    assert (await datasets.get(acme, "a")).name == "a"
    assert (await datasets.get(acme, "b")).id == (await datasets.get(acme, "a")).id == first.id
    assert (await datasets.get(acme, first.id)).name == "b"
    assert (await datasets.list(acme))[2] == 1


async def test_a_name_finds_what_was_last_handed_over_under_it(datasets: DatasetStore, clock: Clock, acme: str) -> None:
    for content in ("a", "b", "a"):
        put = await datasets.put(acme, dataset("daily", content=content))
        clock.pass_time(timedelta(seconds=1))
        assert (await datasets.get(acme, "daily")).id == put.id
    assert (await datasets.list(acme, name="daily"))[2] == 2


async def test_the_same_dataset_put_many_times_at_once_exists_once(datasets: DatasetStore, acme: str) -> None:
    put = await asyncio.gather(
        *(datasets.put(acme, dataset(f"n{n % 3}", labels={"n": str(n), f"k{n}": ""})) for n in range(12))
    )
    assert len({found.id for found in put}) == 1
    listed, _, total = await datasets.list(acme)
    assert total == 1
    assert len(listed[0].labels) == 13


async def test_one_tenants_datasets_do_not_exist_for_another(
    datasets: DatasetStore, tenants: TenantStore, acme: str
) -> None:
    rival = await active(tenants, "rival")
    mine = await datasets.put(acme, dataset("x"))
    for which in (mine.id, "x"):
        with pytest.raises(NotFound) as missing:
            await datasets.get(rival, which)
        assert missing.value.resource_name == which
    with pytest.raises(NotFound):
        await datasets.delete(rival, mine.id)
    assert await datasets.list(rival) == ((), "", 0)
    assert not await datasets.blob_in_use(rival, mine.sha256)
    theirs = await datasets.put(rival, dataset("y", labels={"mine": "no"}))
    await datasets.delete(rival, theirs.id)
    assert await datasets.get(acme, mine.id) == mine
    with pytest.raises(NotFound):
        await datasets.put("none", dataset("x"))


async def test_a_deleted_dataset_is_gone_by_every_name_and_frees_its_bytes_last(
    datasets: DatasetStore, acme: str
) -> None:
    await datasets.put(acme, dataset("a", labels={"k": "v"}))
    put = await datasets.put(acme, dataset("b"))
    same_bytes = put.model_copy(update={"id": names.dataset_id(put.sha256, '{"delimiter":";"}'), "name": "c"})
    await datasets.put(acme, same_bytes)
    assert (await datasets.delete(acme, put.id)).labels == {"k": "v"}
    for which in ("a", "b", put.id):
        with pytest.raises(NotFound):
            await datasets.get(acme, which)
    with pytest.raises(NotFound):
        await datasets.delete(acme, put.id)
    assert await datasets.blob_in_use(acme, put.sha256)
    await datasets.delete(acme, same_bytes.id)
    assert not await datasets.blob_in_use(acme, put.sha256)


async def test_of_deletes_at_once_one_finds_the_dataset(datasets: DatasetStore, acme: str) -> None:
    for _ in range(5):
        put = await datasets.put(acme, dataset("x"))
        await asyncio.gather(*(datasets.get(acme, put.id) for _ in range(4)))  # opens as many connections
        done = await asyncio.gather(*(datasets.delete(acme, put.id) for _ in range(4)), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in done) == ["Dataset", "NotFound", "NotFound", "NotFound"]


async def test_datasets_are_listed_newest_first_in_pages_that_survive_inserts(
    datasets: DatasetStore, acme: str
) -> None:
    async def put(number: int, seconds: float) -> str:
        value = dataset(f"d{number}", content=chr(97 + number))
        return (
            await datasets.put(acme, value.model_copy(update={"created_at": START + timedelta(seconds=seconds)}))
        ).id

    ids = [await put(number, number // 2) for number in range(6)]  # pairs of the same instant
    seen: list[str] = []
    token = ""
    for page in range(3):
        found, token, total = await datasets.list(acme, page_size=2, page_token=token)
        seen += [item.id for item in found]
        assert total == 6 + page
        assert all(item.profile.columns == () and item.profile.rows == 3_000_000_000 for item in found)
        await put(10 + page, 100 + page)
    assert token == ""
    assert sorted(seen) == sorted(ids)
    assert [ids.index(id) // 2 for id in seen] == [2, 2, 1, 1, 0, 0]


async def test_datasets_are_listed_by_name_prefix_owner_and_labels(
    datasets: DatasetStore, clock: Clock, acme: str
) -> None:
    for content, name, owner, labels in (
        ("a", "sales_eu", "ann", {"team": "x", "stage": "prod"}),
        ("b", "sales_us", "bob", {"team": "x"}),
        ("c", "Sales_jp", "ann", {"team": "prod"}),
        ("d", "sales%", "ann", {'we"ird$.[0]': "'"}),
        ("a", "other", "ann", {}),
    ):
        await datasets.put(acme, dataset(name, content=content, owner=owner, labels=labels))
        clock.pass_time(timedelta(seconds=1))

    async def listed(name: str = "", owner: str = "", labels: dict[str, str] | None = None) -> set[str]:
        found, _, total = await datasets.list(acme, name=name, owner=owner, labels=labels)
        assert total == len(found)
        return {item.name for item in found}

    assert await listed() == {"other", "sales_us", "Sales_jp", "sales%"}
    assert await listed(name="sales_eu") == {"sales_eu"}
    assert await listed(name="sales*") == {"sales_eu", "sales_us", "sales%"}
    assert await listed(name="sales%*") == {"sales%"}
    assert await listed(name="*") == await listed()
    assert await listed(name="sales") == set()
    assert await listed(owner="bob") == {"sales_us"}
    assert await listed(labels={"team": "x"}) == {"other", "sales_us"}
    assert await listed(labels={"team": "x", "stage": "prod"}, name="s*") == {"sales_eu"}
    assert await listed(labels={'we"ird$.[0]': "'"}) == {"sales%"}
    assert await listed(labels={"stage": "x"}) == set()


async def test_a_page_token_of_other_filters_is_refused(
    datasets: DatasetStore, tenants: TenantStore, acme: str
) -> None:
    rival = await active(tenants, "rival")
    for content in "abc":
        await datasets.put(acme, dataset("x", content=content))
    _, token, _ = await datasets.list(acme, page_size=1)
    for tenant, name, owner in ((acme, "x", ""), (acme, "", "ann"), (rival, "", "")):
        with pytest.raises(InvalidRequest) as refused:
            await datasets.list(tenant, name=name, owner=owner, page_token=token)
        assert list(refused.value.violations) == ["page_token"]
    with pytest.raises(InvalidRequest):
        await datasets.list(acme, page_size=1001)


async def test_a_name_or_label_that_is_too_long_is_refused_and_the_longest_are_stored(
    datasets: DatasetStore, acme: str
) -> None:
    for bad in (dataset(""), dataset("x" * 201), dataset("x", labels={"": "v"}), dataset("x", labels={"k": "v" * 256})):
        with pytest.raises(InvalidRequest):
            await datasets.put(acme, bad)
    longest = dataset("\U0001f600" * 200, labels={"\U0001f600" * 63: "\U0001f601" * 255})
    assert await datasets.put(acme, longest) == longest
