from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.errors import InvalidRequest
from mlops.jobs.pages import MAX_TOKEN_CHARS, Listing, page_size

LISTING = Listing.of("datasets", tenant="acme", name="x*", labels={"a": "1", "b": "2"})


def forged(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(("asked", "got"), [(0, 100), (1, 1), (1000, 1000)])
def test_a_page_holds_what_was_asked_for_or_a_hundred(asked: int, got: int) -> None:
    assert page_size(asked) == got


@pytest.mark.parametrize("asked", [-1, 1001, 2**31])
def test_a_page_size_out_of_range_is_refused_by_its_field(asked: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        page_size(asked)
    assert list(refused.value.violations) == ["page_size"]


def test_no_token_means_the_first_page() -> None:
    assert LISTING.place("", 1) is None
    assert LISTING.place_at("") is None


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=4))
def test_a_token_is_safe_in_a_url_and_gives_its_place_back(place: list[str]) -> None:
    token = LISTING.token(*place)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert LISTING.place(token, len(place)) == tuple(place)


def test_a_time_and_an_id_come_back_to_the_microsecond_and_in_utc() -> None:
    time = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    found = LISTING.place_at(LISTING.token_at(time, "ds-1"))
    assert found == (time, "ds-1")
    assert found[0].tzinfo is UTC


def test_the_order_in_which_filters_are_given_does_not_matter() -> None:
    same = Listing.of("datasets", labels={"b": "2", "a": "1"}, name="x*", tenant="acme")
    assert same.place(LISTING.token("p"), 1) == ("p",)


@pytest.mark.parametrize(
    "other",
    [
        Listing.of("models", tenant="acme", name="x*", labels={"a": "1", "b": "2"}),
        Listing.of("datasets", tenant="rival", name="x*", labels={"a": "1", "b": "2"}),
        Listing.of("datasets", tenant="acme", name="y*", labels={"a": "1", "b": "2"}),
        Listing.of("datasets", tenant="acme", name="x*", labels={}),
    ],
)
def test_a_token_of_another_list_is_refused(other: Listing) -> None:
    with pytest.raises(InvalidRequest) as refused:
        LISTING.place(other.token("p"), 1)
    assert list(refused.value.violations) == ["page_token"]


@given(st.text(min_size=1))
def test_any_other_text_is_refused(token: str) -> None:
    with pytest.raises(InvalidRequest):
        LISTING.place(token, 1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "text",
        [],
        {"a": 1},
        [LISTING.fingerprint],
        [LISTING.fingerprint, 1],
        [LISTING.fingerprint, "a", "b"],
        [LISTING.fingerprint, "nul \0"],
        [LISTING.fingerprint, "\ud800"],
        [7, "a"],
    ],
)
def test_a_forged_token_of_another_shape_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest):
        LISTING.place(forged(value), 1)


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00"])
def test_a_forged_time_is_refused(time: str) -> None:
    with pytest.raises(InvalidRequest):
        LISTING.place_at(forged([LISTING.fingerprint, time, "ds-1"]))


def test_a_token_that_is_huge_or_deeply_nested_is_refused() -> None:
    for token in ("A" * (MAX_TOKEN_CHARS + 1), base64.urlsafe_b64encode(b"[" * 6000).decode()):
        with pytest.raises(InvalidRequest):
            LISTING.place(token, 1)
