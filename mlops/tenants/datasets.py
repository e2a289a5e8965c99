"""Datasets in the database.

A dataset is its content: (tenant, id), the id being a hash of the bytes and of how they were read. A name is
only a way to find it. So the names stand in a table of their own: the same content handed over as "a" and
later as "b" is one dataset that both names find, and a name that was given to one content after another
finds the one that it was given to last, whether or not that content was new. Labels of repeated uploads add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from cachetools import TTLCache
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, ScalarSelect, and_, delete, exists, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from mlops import names
from mlops.errors import InvalidRequest, NotFound
from mlops.jobs.dataset import Column, DataFormat, Dataset, DatasetProfile, ReadOptions
from mlops.jobs.pages import Listing
from mlops.jobs.pages import page_size as items_of
from mlops.tenants.database import Database, now
from mlops.tenants.lookups import SharedLookups
from mlops.tenants.tables import DatasetLabelRow, DatasetNameRow, DatasetRow

# What fits into an index of PostgreSQL (2.7 kB an entry, up to 4 bytes a character).
MAX_NAME_CHARS = 200
MAX_LABEL_KEY_CHARS = 63
MAX_LABEL_VALUE_CHARS = 255

# `get_recent` sees what another gateway deleted or labelled as much later.
CACHE_TTL = timedelta(seconds=1)
# About a kilobyte each.
CACHE_COLUMNS = 20_000

_COLUMNS = TypeAdapter(tuple[Column, ...])


class DatasetStore:
    """Datasets in the database. Every method may raise Unavailable."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._clock = clock
        # What was read last, by tenant and id: a sweep submits many jobs on one dataset.
        self._cache: TTLCache[tuple[str, str], Dataset] = TTLCache(
            CACHE_COLUMNS, CACHE_TTL.total_seconds(), getsizeof=_cache_size
        )
        self._lookups = SharedLookups(self._look_up)

    async def put(self, tenant: str, dataset: Dataset) -> Dataset:
        """Stores a dataset under its name. Of one that is there already, only the name and labels are taken.

        Returns what is stored, under the name given. Raises NotFound for the tenant, and InvalidRequest for a
        name or label that is too long.
        """
        _check(dataset)
        async with self._database.write() as session:
            row = await session.get(DatasetRow, (tenant, dataset.id), with_for_update=True)
            if row is None:
                row = await _insert(session, _row_of(tenant, dataset))
            # The row is locked by now: no one else writes this dataset's names and labels.
            whose = {"tenant": tenant, "dataset_id": row.id}
            named = DatasetNameRow(**whose, name=dataset.name, named_at=self._clock())
            await session.merge(named)
            for key, value in dataset.labels.items():
                await session.merge(DatasetLabelRow(**whose, key=key, value=value))
            await session.flush()
            stored = (await _datasets(session, [(row, dataset.name)], tenant))[0]
        self._forget(tenant, dataset.id)
        return stored

    async def get(self, tenant: str, id_or_name: str) -> Dataset:
        """A dataset by its id, under its latest name; or the one that was last given the name.

        Raises NotFound.
        """
        async with self._database.read() as session:
            found: tuple[DatasetRow, str] | None = None
            if names.DATASET_ID.match(id_or_name):
                found = await _by_id(session, tenant, id_or_name)
            if found is None:
                found = await _by_name(session, tenant, id_or_name)
            if found is None:
                raise NotFound.of("dataset", id_or_name)
            return (await _datasets(session, [found], tenant))[0]

    async def get_recent(self, tenant: str, id_or_name: str) -> Dataset:
        """As `get`; of an id, as it was within the last second."""
        found = self._cache.get((tenant, id_or_name))
        if found is not None:
            return found
        # What a name finds may change at any moment.
        is_id = names.DATASET_ID.match(id_or_name)
        return await (self._lookups.get((tenant, id_or_name)) if is_id else self.get(tenant, id_or_name))

    async def _look_up(self, of: tuple[str, str]) -> Dataset:
        dataset = await self.get(*of)
        if dataset.id == of[1] and _cache_size(dataset) <= CACHE_COLUMNS:
            self._cache[of] = dataset
        return dataset

    def _forget(self, tenant: str, dataset_id: str) -> None:
        self._cache.pop((tenant, dataset_id), None)
        self._lookups.forget((tenant, dataset_id))

    async def list(
        self,
        tenant: str,
        *,
        name: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> tuple[tuple[Dataset, ...], str, int]:
        """One page, newest first, without columns; the token of the next; how many there are in all.

        name: exact, or a prefix with a trailing "*"; a dataset appears under its latest name that fits.
        Everything given must hold. Raises InvalidRequest.
        """
        limit = items_of(page_size)
        listing = Listing.of("datasets", tenant=tenant, name=name, owner=owner, labels=dict(labels or {}))
        place = listing.place_at(page_token)
        wanted = [DatasetRow.tenant == tenant]
        if name:
            wanted.append(_is_named(name))
        if owner:
            wanted.append(DatasetRow.owner == owner)
        wanted.extend(_is_labelled(key, value) for key, value in (labels or {}).items())
        query = (
            select(DatasetRow, _latest_name(name))
            .options(defer(DatasetRow.columns, raiseload=True))
            .where(*wanted)
            .order_by(DatasetRow.created_at.desc(), DatasetRow.id.desc())
            .limit(limit + 1)
        )
        if place is not None:
            before = and_(DatasetRow.created_at == place[0], DatasetRow.id < place[1])
            query = query.where(or_(DatasetRow.created_at < place[0], before))
        async with self._database.read() as session:
            total = await session.scalar(select(func.count()).select_from(DatasetRow).where(*wanted)) or 0
            rows = [(row, shown) for row, shown in await session.execute(query)]
            page = await _datasets(session, rows[:limit], tenant, with_columns=False)
        return page, listing.token_at(page[-1].created_at, page[-1].id) if len(rows) > limit else "", total

    async def delete(self, tenant: str, id: str) -> Dataset:
        """Removes a dataset with all its names; returns what it was. Raises NotFound."""
        async with self._database.write() as session:
            await session.get(DatasetRow, (tenant, id), with_for_update=True)
            found = await _by_id(session, tenant, id)
            if found is None:
                raise NotFound.of("dataset", id)
            deleted = (await _datasets(session, [found], tenant))[0]
            await session.execute(delete(DatasetRow).where(DatasetRow.tenant == tenant, DatasetRow.id == id))
        self._forget(tenant, id)
        return deleted

    async def blob_in_use(self, tenant: str, sha256: str) -> bool:
        """Whether a dataset of the tenant was read from these bytes."""
        used = exists().where(DatasetRow.tenant == tenant, DatasetRow.sha256 == sha256)
        async with self._database.read() as session:
            return bool(await session.scalar(select(used)))


def _cache_size(dataset: Dataset) -> int:
    return len(dataset.profile.columns) + 1


def _check(dataset: Dataset) -> None:
    violations = {}
    if not 1 <= len(dataset.name) <= MAX_NAME_CHARS:
        violations["name"] = f"must have 1-{MAX_NAME_CHARS} characters"
    for key, value in dataset.labels.items():
        if not 1 <= len(key) <= MAX_LABEL_KEY_CHARS or len(value) > MAX_LABEL_VALUE_CHARS:
            limits = f"a key has 1-{MAX_LABEL_KEY_CHARS} characters, a value at most {MAX_LABEL_VALUE_CHARS}"
            violations["labels"] = limits
    if violations:
        raise InvalidRequest("; ".join(f"{field}: {text}" for field, text in violations.items()), violations=violations)


async def _insert(session: AsyncSession, row: DatasetRow) -> DatasetRow:
    try:
        async with session.begin_nested():
            session.add(row)
        return row
    except IntegrityError as exc:  # another gateway was faster, or there is no such tenant
        found = await session.get(DatasetRow, (row.tenant, row.id), with_for_update=True)
        if found is None:
            raise NotFound.of("tenant", row.tenant) from exc
        return found


async def _by_id(session: AsyncSession, tenant: str, id: str) -> tuple[DatasetRow, str] | None:
    query = select(DatasetRow, _latest_name("")).where(DatasetRow.tenant == tenant, DatasetRow.id == id)
    found = (await session.execute(query)).one_or_none()
    return (found[0], found[1]) if found else None


async def _by_name(session: AsyncSession, tenant: str, name: str) -> tuple[DatasetRow, str] | None:
    query = (
        select(DatasetRow)
        .join(
            DatasetNameRow, and_(DatasetNameRow.tenant == DatasetRow.tenant, DatasetNameRow.dataset_id == DatasetRow.id)
        )
        .where(DatasetNameRow.tenant == tenant, DatasetNameRow.name == name)
        .order_by(DatasetNameRow.named_at.desc(), DatasetNameRow.dataset_id)
        .limit(1)
    )
    row = await session.scalar(query)
    return (row, name) if row else None


def _fits(name: str) -> ColumnElement[bool]:
    """Whether a name is the one given, or begins with it where that ends in "*". LIKE would ignore case on SQLite."""
    if name.endswith("*"):
        prefix = name[:-1]
        return func.substr(DatasetNameRow.name, 1, len(prefix)) == prefix
    return DatasetNameRow.name == name


def _is_named(name: str) -> ColumnElement[bool]:
    return exists().where(
        DatasetNameRow.tenant == DatasetRow.tenant, DatasetNameRow.dataset_id == DatasetRow.id, _fits(name)
    )


def _latest_name(name: str) -> ScalarSelect[str]:
    """The name that a dataset was last given, of those that fit."""
    return (
        select(DatasetNameRow.name)
        .where(
            DatasetNameRow.tenant == DatasetRow.tenant,
            DatasetNameRow.dataset_id == DatasetRow.id,
            *([_fits(name)] if name else []),
        )
        .order_by(DatasetNameRow.named_at.desc(), DatasetNameRow.name)
        .limit(1)
        .correlate(DatasetRow)
        .scalar_subquery()
    )


def _is_labelled(key: str, value: str) -> ColumnElement[bool]:
    return exists().where(
        DatasetLabelRow.tenant == DatasetRow.tenant,
        DatasetLabelRow.dataset_id == DatasetRow.id,
        DatasetLabelRow.key == key,
        DatasetLabelRow.value == value,
    )


async def _datasets(
    session: AsyncSession, found: Iterable[tuple[DatasetRow, str]], tenant: str, *, with_columns: bool = True
) -> tuple[Dataset, ...]:
    """The datasets of rows, each under the name given with it."""
    rows = list(found)
    labels: dict[str, dict[str, str]] = {row.id: {} for row, _ in rows}
    query = select(DatasetLabelRow).where(DatasetLabelRow.tenant == tenant, DatasetLabelRow.dataset_id.in_(labels))
    for label in await session.scalars(query.order_by(DatasetLabelRow.key)):
        labels[label.dataset_id][label.key] = label.value
    return tuple(_dataset_of(row, name, labels[row.id], with_columns=with_columns) for row, name in rows)


def _row_of(tenant: str, dataset: Dataset) -> DatasetRow:
    return DatasetRow(
        tenant=tenant,
        id=dataset.id,
        sha256=dataset.sha256,
        size_bytes=dataset.size_bytes,
        source_uri=dataset.source_uri,
        read_options=dataset.read_options.model_dump_json(),
        format=dataset.profile.format,
        rows=dataset.profile.rows,
        stored_bytes=dataset.profile.stored_bytes,
        columns=_COLUMNS.dump_json(dataset.profile.columns).decode(),
        owner=dataset.owner,
        created_at=dataset.created_at,
    )


def _dataset_of(row: DatasetRow, name: str, labels: dict[str, str], *, with_columns: bool) -> Dataset:
    return Dataset(
        id=row.id,
        name=name,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        source_uri=row.source_uri,
        read_options=ReadOptions.model_validate_json(row.read_options),
        profile=DatasetProfile(
            format=DataFormat(row.format),
            rows=row.rows,
            columns=_COLUMNS.validate_json(row.columns) if with_columns else (),
            stored_bytes=row.stored_bytes,
        ),
        owner=row.owner,
        created_at=row.created_at,
        labels=labels,
    )
