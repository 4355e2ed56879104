"""Models follow the structs: keys with units, options, nested tables, and back again."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streams.configuration.shape import key_of, keys, model_of, struct_of, table_of
from streams.core.policy import Category, DigestRule, LimitRule, RetryRule
from streams.engine.settings import EngineSettings
from streams.ranges import OneOrMore, Port
from streams.settings import OWN_SECTIONS, PROVIDERS
from streams.sinks.settings import FcmSettings


class Inner(msgspec.Struct, frozen=True):
    needed: int
    wait_ms: int = 5


class Outer(msgspec.Struct, frozen=True):
    names: tuple[str, ...] = ()
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    table: dict[str, int] = {}
    ratio: float | None = 1.0
    cache_bytes: int = 0
    flag: bool = False
    count_max: Annotated[int, msgspec.Meta(ge=1, le=9)] = 5
    limit_ms: OneOrMore | None = None
    ports: tuple[Port, ...] = ()
    server_url: str = ""


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("window_ms", "window"),
        ("delay_ms_max", "delay_max"),
        ("loop_stall_ms_log", "loop_stall_log"),
        ("cache_bytes", "cache_bytes"),
        ("ms", "ms"),
    ],
)
def test_keys_lose_the_unit_that_a_duration_has(field: str, key: str) -> None:
    assert key_of(field) == key


@pytest.mark.parametrize(
    "struct", [*OWN_SECTIONS.values(), *PROVIDERS.values(), Category], ids=lambda s: s.__name__
)
def test_no_two_fields_of_our_settings_share_a_key(struct: type[msgspec.Struct]) -> None:
    assert len(keys(struct)) == len(struct.__struct_fields__)
    model_of(struct)


def test_a_table_becomes_its_struct() -> None:
    table = {
        "names": ["a", "b"],
        "inner": {"needed": 1, "wait": "2s"},
        "many": [{"needed": 3}],
        "table": {"x": 1},
        "ratio": False,
        "cache_bytes": "1MiB",
        "flag": True,
    }
    built = struct_of(Outer, model_of(Outer).model_validate(table))
    assert built == Outer(("a", "b"), Inner(1, 2_000), (Inner(3),), {"x": 1}, None, 1 << 20, True)


@pytest.mark.parametrize(
    "table",
    [
        {"names": "a"},
        {"names": [1]},
        {"inner": {}},
        {"inner": {"needed": "1"}},
        {"inner": {"needed": 1.0}},
        {"inner": {"needed": True}},
        {"inner": {"needed": -1}},
        {"inner": {"needed": 1, "wait": 5}},
        {"inner": {"needed": 1, "wait_ms": 5}},
        {"table": {"x": "1"}},
        {"ratio": "1"},
        {"flag": 1},
        {"flag": "yes"},
        {"unknown": 1},
        {"count_max": 0},
        {"count_max": 10},
        {"limit": "0s"},
        {"ports": [80, 65_536]},
        {"server_url": "a:80"},
    ],
)
def test_nothing_is_guessed(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        model_of(Outer).model_validate(table)


def test_fields_from_elsewhere_are_no_keys() -> None:
    with pytest.raises(ValidationError):
        model_of(EngineSettings, frozenset({"bootstrap"})).model_validate({"bootstrap": "x:1"})


@given(
    st.builds(
        Category,
        name=st.just("x"),
        mandatory=st.booleans(),
        channels=st.lists(st.sampled_from(["push", "email"])).map(tuple),
        digest=st.none() | st.builds(DigestRule, mode=st.just("window"), window_ms=st.integers(0)),
        limits=st.lists(
            st.builds(
                LimitRule,
                scope=st.sampled_from(["category", "recipient"]),
                count_max=st.integers(0, 99),
                window_ms=st.integers(0, 10**9),
            )
        ).map(tuple),
        retry=st.builds(RetryRule, delay_ms=st.integers(0, 10**9)),
    )
)
def test_a_struct_comes_back_from_its_table(category: Category) -> None:
    table = {"name": "x", **table_of(category)}
    assert struct_of(Category, model_of(Category).model_validate(table)) == category


def test_none_is_written_as_false_where_it_is_not_the_default() -> None:
    unlimited = FcmSettings(project_id="p", service_account_json="{}", quota_per_second=None)
    table = {"name": "fcm", **table_of(unlimited)}
    assert table["quota_per_second"] is False
    assert struct_of(FcmSettings, model_of(FcmSettings).model_validate(table)) == unlimited
