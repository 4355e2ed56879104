"""Templates: what is chosen, what a hostile or broken one can do (nothing)."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.templates.catalogue import TemplateError, Templates, locale_chain
from streams.templates.render import render
from streams.templates.rendered import Rendered, RenderFailed
from tests.agents.delivering import delivery


def rendered(templates: Templates, **changes: object) -> Rendered:
    result = render(delivery(1, **changes), templates)  # type: ignore[arg-type]
    assert isinstance(result, Rendered), result
    return result


def folder_with(tmp_path: Path, text: str) -> Templates:
    (tmp_path / "message.toml").write_text(text)
    return Templates(tmp_path)


def test_without_templates_the_built_in_default_speaks(tmp_path: Path) -> None:
    words = rendered(Templates(tmp_path), category="unknown-category")
    assert words.title == "New unknown-category"
    digest = {"event_id": None, "count": 5, "actors": 2}
    words = rendered(Templates(tmp_path), category="unknown-category", **digest)
    assert words.body == "5 new from 2 people"
    words = rendered(Templates(tmp_path), category="x", **digest | {"actors": 1, "count": 1})
    assert words.body == "1 new from 1 person"


def test_locales_fall_back_from_the_region_to_the_language_to_the_default(tmp_path: Path) -> None:
    templates = folder_with(
        tmp_path, '[default.any]\ntitle="d"\nbody="d"\n[fr.any]\ntitle="f"\n[fr-CA.email]\nbody="c"'
    )
    assert locale_chain("fr_CA") == ["fr-ca", "fr", "default"]
    assert rendered(templates, locale="fr-CA").title == "f"
    assert rendered(templates, locale="fr-CA").body == "d"
    assert rendered(templates, locale="fr-CA", kind="email").body == "c"
    assert rendered(templates, locale="pt").title == "d"


def test_plurals_follow_the_language(tmp_path: Path) -> None:
    text = "[default.any]\ntitle=\"t\"\nbody=\"{{ plural(count, one='{n} a', few='{n} b', "
    templates = folder_with(tmp_path, text + "many='{n} c', other='{n} d') }}\"")
    forms = [rendered(templates, locale="ru", count=n).body for n in (1, 2, 5, 21)]
    assert forms == ["1 a", "2 b", "5 c", "21 a"]
    assert rendered(templates, locale="ja", count=1).body == "1 d"
    assert rendered(templates, locale="no-such-locale", count=1).body == "1 a"


def test_a_missing_variable_is_a_value_not_an_exception(tmp_path: Path) -> None:
    templates = folder_with(tmp_path, '[default.any]\ntitle="{{ data.nope }}"\nbody="b"')
    result = render(delivery(1), templates)
    assert isinstance(result, RenderFailed)
    assert result.reason == "template_variable"


@pytest.mark.parametrize(
    "expression",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ data.__init__.__globals__ }}",
        "{{ items.__class__.__base__.__subclasses__() }}",
        "{{ 1 / 0 }}",
        "{{ range(10**9) }}",
        "{% include 'x' %}",
        "{{ data.update({'a': 'b'}) }}",
    ],
)
def test_the_sandbox_holds(tmp_path: Path, expression: str) -> None:
    templates = folder_with(tmp_path, f"[default.any]\ntitle='t'\nbody={expression!r}")
    assert isinstance(render(delivery(1), templates), RenderFailed)


def test_html_is_escaped_and_text_is_not(tmp_path: Path) -> None:
    templates = folder_with(
        tmp_path,
        '[default.any]\ntitle="{{ text }}"\nbody="{{ text }}"\n[default.email]\nhtml="{{ text }}"',
    )
    words = rendered(templates, kind="email", data={"text": "<b>&"})
    assert (words.body, words.html) == ("<b>&", "&lt;b&gt;&amp;")


def test_titles_and_subjects_are_one_line(tmp_path: Path) -> None:
    templates = folder_with(tmp_path, '[default.any]\ntitle="{{ text }}"\nbody="b"')
    words = rendered(templates, data={"text": "a\r\nBcc: x\u2028y"})
    assert (words.title, words.subject) == ("a Bcc: x y", "a Bcc: x y")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[default.any]\ntitle='{{ x '", "default.any.title"),
        ("[default.any]\nheadline='x'", "default.any.headline"),
        ("[default]\nany='x'", "default.any"),
        ("not toml", "message.toml"),
    ],
)
def test_a_broken_file_stops_the_start_and_says_where(
    tmp_path: Path, text: str, named: str
) -> None:
    with pytest.raises(TemplateError, match=named):
        folder_with(tmp_path, text)


@pytest.mark.parametrize(
    ("title", "body"),
    [
        ("{% set who = 'Eve' %}{{ who }}", "{{ who }}"),
        ("{% macro who() %}Eve{% endmacro %}{{ who() }}", "{{ who }}"),
        ("{% block who %}Eve{% endblock %}", "{% block who %}{{ data.who }}{% endblock %}"),
    ],
)
def test_what_a_title_makes_for_itself_is_not_the_bodys(
    tmp_path: Path, title: str, body: str
) -> None:
    templates = folder_with(tmp_path, f'[default.any]\ntitle = "{title}"\nbody = "{body}"\n')
    some = rendered(templates, data={"who": "Ann"})
    assert isinstance(some, Rendered)
    assert (some.title, some.body) == ("Eve", "Ann")
