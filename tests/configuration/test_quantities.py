"""Durations and sizes are read as people write them, and nothing else is guessed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.configuration.quantities import (
    UNITS_MS,
    duration_ms,
    duration_text,
    size_bytes,
    web_url,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1.5h", 5_400_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("1.001s", 1_001),
        ("9007199254740993ms", 9_007_199_254_740_993),
        (f"{10**28 + 1}ms", 10**28 + 1),
        ("0s", 0),
        (0, 0),
    ],
)
def test_durations(text: Any, expected: int) -> None:
    assert duration_ms(text) == expected


@pytest.mark.parametrize(
    "text", ["5", 5, 1.5, "", "m", "5 m", "-5m", "5min", "1h 30m", "0.5ms", True, False, None, []]
)
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        duration_ms(text)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(UNITS_MS))), min_size=1))
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert duration_ms(text) == sum(number * UNITS_MS[unit] for number, unit in parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(512, 512), ("512B", 512), ("64MiB", 64 << 20), ("8 GiB", 8 << 30), ("1.5KiB", 1536)],
)
def test_sizes(text: Any, expected: int) -> None:
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["8GB", "64", -1, True, 1.5, None, "MiB"])
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        size_bytes(text)


@given(st.integers(0, 10**12))
def test_a_duration_is_written_in_one_unit_and_read_back(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


def test_durations_are_written_in_their_largest_unit() -> None:
    assert [duration_text(ms) for ms in (30_000, 90_000, 1_500, 86_400_000)] == [
        "30s", "90s", "1500ms", "1d"
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "http://a", "https://b.c:8081/x?y", "http://[::1]:6066"])
def test_urls_of_servers(text: str) -> None:
    assert web_url(text) == text


@pytest.mark.parametrize(
    "text", ["a", "a:8081", "ftp://a", "https://", "http://:80", "http://a:99999", "http://a b"]
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(ValueError, match="expected a URL"):
        web_url(text)
