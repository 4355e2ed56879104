"""The configuration reference: complete, right, and the same as the page that is in docs/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams import settings
from streams.commands.reference import Section, render, sections
from streams.configuration.shape import keys, table_under

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"


def rows_under(heading: str) -> set[str]:
    _, _, after = render().partition(f"\n## `{heading}`\n")
    table, _, _ = after.partition("\n## ")
    return {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}


def test_the_page_in_docs_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "settings have changed: run `flowstate config reference --write docs/configuration.md`"
    )


def test_every_key_that_is_taken_is_in_it() -> None:
    for section in sections():
        taken = {name for name, key in keys(section.struct).items()
                 if key.field not in section.left_out}  # fmt: skip
        assert rows_under(section.heading) == taken, section.heading


def test_every_section_and_provider_has_a_heading() -> None:
    headings = " ".join(section.heading for section in sections())
    for name in settings.OWN_SECTIONS:
        assert f"[{name}]" in headings
    for kind in settings.PROVIDERS:
        assert f'of type "{kind}"' in headings


def test_defaults_are_written_as_one_would_write_them() -> None:
    text = render()
    assert "| `web_port` | a number, 0 to 65535 | `6066` |" in text
    assert "| `auth_token` | a text | (required) |" in text
    assert "| `decide_urls` | a list of URLs | empty |" in text
    assert '| `delay` | a duration | `"5s"` |' in text
    assert '| `dedupe_horizon` | a duration | `"1d"` |' in text
    assert "| `quota_per_second` | a number, more than 0, or `false` | none |" in text
    assert "| `mandatory` | `true`, `false` | `false` | Cannot be opted out of" in text


def test_what_a_key_may_use_is_there_with_both_defaults() -> None:
    assert rows_under("[api.key_limits], [api.public_limits]") == {
        "requests_per_second", "events_per_second", "burst_seconds", "concurrency_max"
    }  # fmt: skip
    assert "`requests_per_second = 200.0`" in render()


def tables_within(section: Section) -> set[str]:
    """Keys that say "see below"."""
    return {name for name, key in keys(section.struct).items()
            if key.field not in section.left_out and table_under(key.annotation)}  # fmt: skip


def test_every_table_that_is_said_to_be_below_is_below() -> None:
    headings = " ".join(section.heading for section in sections())
    for section in sections():
        for name in tables_within(section):
            assert f".{name}]" in headings, (section.heading, name)


def test_a_field_of_the_source_is_a_key_on_the_page() -> None:
    """Operators copy what they read: ``window_ms`` would be refused."""
    assert not re.findall(r"`\w*_ms(?:_\w+)?`|`None`|milliseconds", render())


FOR_OPERATORS = sorted(
    {
        *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md"),
        ROOT / "README.md", ROOT / "flowstate.toml", ROOT / "streams" / "engine" / "group.py",
        ROOT / "docker-compose.yml", *(ROOT / "deploy" / "kubernetes").glob("*.*"),
    } - {ROOT / "docs" / "adding-a-sink.md"}
)  # fmt: skip


@pytest.mark.parametrize("page", FOR_OPERATORS, ids=lambda page: page.name)
def test_no_page_for_operators_has_the_name_of_a_field_for_a_key(page: Path) -> None:
    fields = {key.field for section in sections() for key in keys(section.struct).values()
              if key.field != key.name}  # fmt: skip
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".py":  # its messages, not its code
        text = " ".join(re.findall(r'"[^"]*"', text))
    named = set(re.findall(r"\w*_ms(?:_\w+)?", text))
    assert not named & fields
