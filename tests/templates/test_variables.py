"""A field that a template needs and an event may lack is found before there is any event."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jinja2 import Environment

from streams.cli import main
from streams.core.policy import Category
from streams.templates.catalogue import Templates
from streams.templates.variables import needed, problems_of


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("Hello", set()),
        ("{{ data.who }} {{ data['what'] }} {{ where }}", {"who", "what", "where"}),
        ("{{ count }} {{ actors }} {{ category }} {{ locale }} {{ data | length }}", set()),
        ("{% for item in items %}{{ item.data.who }}{% endfor %}", {"who"}),
        ("{{ data.who | default('x') }} {{ who | d('x') }}", set()),
        ("{{ data['who'] | default('x') | upper }}", set()),
        ("{% if data.who is defined %}{{ data.who }}{% endif %}", set()),
        ("{% if data.who %}{{ data.who }}{% endif %}", {"who"}),
        ("{% set name = data.who %}{{ name }}", {"who"}),
        ("{{ plural(count, one=data.a, other='b') }}", {"a"}),
        ("{{ data.who | upper }} {{ other.who }}", {"who", "other"}),
    ],
)
def test_what_a_template_cannot_do_without(text: str, fields: set[str]) -> None:
    environment = Environment(autoescape=True)
    environment.globals["plural"] = str
    assert needed(environment.parse(text)) == fields


def templates(tmp_path: Path) -> Templates:
    (tmp_path / "message.toml").write_text(
        '[default.any]\ntitle = "{{ data.who }}"\nbody = "{{ data.text | default(\'\') }}"\n'
        '[fr.email]\nsubject = "{{ data.topic }}"\n'
    )
    return Templates(tmp_path)


def test_a_category_must_require_what_its_templates_need(tmp_path: Path) -> None:
    found = templates(tmp_path)
    assert problems_of([Category("message", requires=("who", "topic"))], found) == []
    assert problems_of([Category("other")], found) == []
    topic, who = problems_of([Category("chatter", template="message")], found)
    assert "message.toml fr.email.subject uses data.topic" in topic
    assert 'add "who" to requires of [categories.chatter]' in who
    assert '{{ data.who | default("...") }}' in who


def checked(tmp_path: Path, requires: str) -> Result:
    templates(tmp_path)
    file = tmp_path / "flowstate.toml"
    file.write_text(
        f'[deliver]\ntemplates_folder = "{tmp_path}"\n[categories.message]\nrequires = {requires}\n'
    )
    (tmp_path / "flowstate.toml").rename(tmp_path / "c.conf")  # not a template
    return CliRunner().invoke(main, ["config", "check", "--config", str(tmp_path / "c.conf")])


def test_config_check_says_so(tmp_path: Path) -> None:
    result = checked(tmp_path, '["who"]')
    assert result.exit_code == 1
    assert "uses data.topic" in result.output
    assert "data.who" not in result.output
    assert checked(tmp_path, '["who", "topic"]').exit_code == 0
    result = checked(tmp_path, '["data.who"]')
    assert result.exit_code == 1
    assert 'without "data."' in result.output
