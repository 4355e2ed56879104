"""``flowstate preview``: the words that would be sent, and errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streams.cli import main

CATALOGUE = """
[deliver]
templates_folder = "{folder}"
[categories.message]
channels = ["push", "email", "sms", "webhook", "chat"]
sms_segments_max = 1
[categories.message.digest]
mode = "window"
keep = "top"
top_by = "data.score"
items_kept_max = 2
items_max = 50
[categories.quiet]
channels = ["email"]
"""
TEMPLATE = """
[default.any]
title = "{{ data.who }} wrote"
body = "{{ data.text }}"
digest_title = "{{ plural(count, one='1 message', other='{n} messages') }}"
digest_body = "{% for item in items %}{{ item.data.who }};{% endfor %}{{ actors }}"
[fr.any]
title = "{{ data.who }} a écrit"
[fr-CA.email]
subject = "Courriel de {{ data.who }}"
html = "<p>{{ data.text }}</p>"
[ru.any]
digest_title = "{{ plural(count, one='{n} a', few='{n} b', many='{n} c', other='{n} d') }}"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "message.toml").write_text(TEMPLATE)
    file = tmp_path / "flowstate.toml"
    file.write_text(CATALOGUE.replace("{folder}", str(folder)))
    return file


def run(config: Path, *arguments: str, text: str | None = None) -> Result:
    command = ["preview", *arguments, "--config", str(config)]
    return CliRunner().invoke(main, command, input=text)


def found(config: Path, *arguments: str, text: str | None = None) -> list[dict[str, Any]]:
    result = run(config, *arguments, "--json", text=text)
    assert result.exit_code == 0, result.output
    documents: list[dict[str, Any]] = json.loads(result.output)
    return documents


WORDS = ("--data", "who=Ann", "--data", "text=Hello <you>")


def test_every_channel_and_kind_is_shown_in_every_locale(config: Path) -> None:
    shown = found(config, "message", *WORDS, "--locale", "en", "--locale", "fr-CA")
    assert [(one["locale"], one["channel"]) for one in shown] == [
        (locale, channel)
        for locale in ("en", "fr-CA")
        for channel in ("push", "email", "sms", "webhook", "chat")
    ]
    kinds = {kind["kind"] for one in shown for kind in one["shown"]}
    assert kinds == {"apns", "fcm", "webpush", "email", "sms", "webhook", "chat"}
    for one in shown[0]["shown"]:
        assert (one["title"], one["body"], one["is_shortened"]) == (
            "Ann wrote", "Hello <you>", False,
        )  # fmt: skip


def test_the_locale_falls_back_part_by_part_and_says_where_to(config: Path) -> None:
    (mail,) = found(config, "message", *WORDS, "--locale", "fr-CA", "--channel", "email")
    assert mail["title"] == "Ann a écrit"
    assert mail["subject"] == "Courriel de Ann"
    assert mail["html"] == "<p>Hello &lt;you&gt;</p>"
    assert mail["templates"] == {
        "title": "message.toml fr.any.title",
        "body": "message.toml default.any.body",
        "subject": "message.toml fr-CA.email.subject",
        "html": "message.toml fr-CA.email.html",
    }


def test_a_digest_of_many_counts_and_keeps_as_the_categorys_rule_says(config: Path) -> None:
    events = "\n".join(
        json.dumps(
            {
                "event_id": f"e{score}", "recipient_id": "ann", "category": "message",
                "actor_id": f"a{score % 3}", "data": {"who": f"W{score}", "score": str(score)},
            }
        )
        for score in (7, 40, 3, 39)
    )  # fmt: skip
    arguments = ("message", "--event", "-", "--channel", "push", "--locale", "ru")
    (digest,) = found(config, *arguments, text=events)
    assert (digest["count"], digest["actors"]) == (4, 2)
    assert (digest["title"], digest["body"]) == ("4 b", "W40;W39;2")
    (many,) = found(config, *arguments, "--digest", "21", text=events)
    assert (many["count"], many["title"], many["note"]) == (21, "21 a", "")
    (too_many,) = found(config, *arguments, "--digest", "51", text=events)
    assert "closes a digest at 50 events" in too_many["note"]


def test_what_a_channel_cannot_hold_is_shown_as_it_would_be_cut(config: Path) -> None:
    long = "é" * 5_000
    shown = found(config, "message", "--data", "who=Ann", "--data", f"text={long}")
    by_kind = {kind["kind"]: kind for one in shown for kind in one["shown"]}
    for kind, limit in (("apns", 4_096), ("fcm", 4_096), ("webpush", 3_993)):
        assert by_kind[kind]["is_shortened"]
        assert by_kind[kind]["body"].endswith("é…")
        size = int(by_kind[kind]["size"].split()[0].replace(",", ""))
        assert limit - 2 <= size <= limit, kind
    assert by_kind["sms"]["size"] == "1 of 1 messages (gsm7)"
    assert by_kind["sms"]["body"] == "é" * 157 + "..."
    assert len(by_kind["chat"]["body"]) < 3_000
    assert by_kind["email"]["body"] == long


def test_a_table_for_people(config: Path) -> None:
    result = run(config, "message", *WORDS, "--channel", "sms", "--digest", "51")
    assert result.exit_code == 0
    for words in ("message on sms in en: a digest of 51", "51 messages", "items_max"):
        assert words in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mesage"], ["no category 'mesage'", 'did you mean "message"', "message, quiet"]),
        (["quiet", "--channel", "push"], ["never sent on push", "Its channels are email"]),
        (["message"], ["no attribute 'who'", "message.toml", "--data NAME=VALUE"]),
        (["message", "--data", "who"], ["is no pair", "--data who=Ann"]),
        (["message", "--event", "-"], ["none of the 1 events", '"category": "message"']),
    ],
)  # fmt: skip
def test_mistakes_say_what_to_do(config: Path, arguments: list[str], said: list[str]) -> None:
    other = '{"event_id": "e", "recipient_id": "ann", "category": "quiet"}'
    result = run(config, *arguments, text=other)
    assert result.exit_code == 1
    for words in said:
        assert words in result.output


def test_templates_that_cannot_be_used_are_named(config: Path) -> None:
    (config.parent / "templates" / "message.toml").write_text("[default.any]\ntitle = '{{'")
    result = run(config, "message")
    assert result.exit_code == 1
    assert "message.toml: default.any.title" in result.output
    config.write_text(config.read_text().replace("/templates", "/nowhere"))
    result = run(config, "message")
    assert "nowhere is not there" in result.output
