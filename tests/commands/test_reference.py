"""The configuration reference: complete, right, and the same as the page that is in docs/."""

from __future__ import annotations

from pathlib import Path

from streams import settings
from streams.commands.reference import render, sections
from streams.configuration.shape import keys

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


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
    assert '| `delay` | a duration | `"5s"` |' in text
    assert '| `dedupe_horizon` | a duration | `"1d"` |' in text
    assert "| `quota_per_second` | a number, or `false` | none |" in text
    assert "| `mandatory` | `true`, `false` | `false` | Cannot be opted out of" in text
