"""Which template a delivery uses: read once from TOML, compiled once, looked up by fallback.

One file per template name (a category's ``template``, or its own name)::

    [default.any]                 # locale, then channel ("any" is every channel)
    title = "{{ data.who }} sent you a message"
    body = "{{ data.text }}"
    digest_title = "{{ plural(count, one='1 message', other='{n} messages') }}"
    digest_body = "..."

    [fr.email]
    subject = "..."
    html = "..."

A part is looked for from the most to the least specific: locale ``fr-CA``, ``fr``, ``default``;
within a locale the channel, then ``any``; then the built-in template of that name, then the
built-in ``default``. Templates run in Jinja's sandbox and a missing variable is an error.

Invariants: nothing is compiled after the start; a template that does not compile stops the start
with its file and key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import StrictUndefined, Template, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from streams.templates.plurals import number, plural
from streams.templates.variables import needed

PARTS = ("title", "body", "subject", "html")
DEFAULT_NAME = "default"
DEFAULT_LOCALE = "default"
ANY_CHANNEL = "any"
LOOKUPS_MAX = 10_000
"""Bound of the cache of look-ups: names x channels x locales seen."""


class TemplateError(Exception):
    """A template file cannot be used; says which and why. Stops the start."""


class Chosen(msgspec.Struct, frozen=True):
    """The compiled parts for one (name, channel, locale, single or digest)."""

    title: Template
    body: Template
    subject: Template | None
    html: Template | None
    is_alone: bool = False
    """Title or body has blocks, which are part of the context that a template runs in."""


Key = tuple[str, str, str, str]
"""(template name, locale, channel, part or ``digest_part``)."""


class Templates:
    """All compiled templates. ``choose`` is the only question."""

    def __init__(self, folder: Path | None = None) -> None:
        self._text = _environment(autoescape=False)
        self._markup = _environment(autoescape=True)
        self._parts: dict[Key, Template] = {}
        self._needs: dict[str, dict[str, str]] = {}
        self._chosen: dict[tuple[str, str, str, bool], Chosen] = {}
        self.given: dict[str, Any] = dict(self._text.globals)
        """What every template may use beside a delivery's variables."""
        for item in resources.files("streams.templates").joinpath("builtin").iterdir():
            if item.name.endswith(".toml"):
                self._add(item.name.removesuffix(".toml"), item.read_text(), item.name)
        if folder is not None:
            for path in sorted(folder.glob("*.toml")):
                self._add(path.stem, path.read_text(), path.name)

    def choose(self, name: str, channel: str, locale: str, digest: bool) -> Chosen:
        """Parts for a delivery; always finds some, because the built-in default has them all."""
        key = (name, channel, locale, digest)
        chosen = self._chosen.get(key)
        if chosen is None:
            if len(self._chosen) >= LOOKUPS_MAX:
                self._chosen.clear()
            chosen = self._chosen[key] = self._look_up(name, channel, locale, digest)
        return chosen

    def needs(self, name: str) -> dict[str, str]:
        """Data field -> a template of this name that fails without it."""
        return self._needs.get(name, {})

    def _look_up(self, name: str, channel: str, locale: str, digest: bool) -> Chosen:
        prefix = "digest_" if digest else ""
        found: dict[str, Template | None] = {
            part: self._part(name, channel, locale, prefix + part) for part in PARTS
        }
        for part in ("title", "body"):
            found[part] = found[part] or self._part(DEFAULT_NAME, channel, locale, prefix + part)
        title, body = found["title"], found["body"]
        assert title is not None, "the built-in default template has a title"
        assert body is not None, "the built-in default template has a body"
        is_alone = bool(title.blocks or body.blocks)
        return Chosen(title, body, found["subject"], found["html"], is_alone)

    def _part(self, name: str, channel: str, locale: str, part: str) -> Template | None:
        for candidate in locale_chain(locale):
            for place in (channel, ANY_CHANNEL):
                template = self._parts.get((name, candidate, place, part))
                if template is not None:
                    return template
        return None

    def _add(self, name: str, source: str, file: str) -> None:
        try:
            content = tomllib.loads(source)
        except tomllib.TOMLDecodeError as error:
            raise TemplateError(f"{file}: {error}") from error
        for locale, channel, part, text in _entries(content, file):
            environment = self._markup if part.endswith("html") else self._text
            try:
                template = environment.from_string(text)
            except TemplateSyntaxError as error:
                raise TemplateError(f"{file}: {locale}.{channel}.{part}: {error}") from error
            template.name = f"{file} {locale}.{channel}.{part}"
            for field in needed(environment.parse(text)):
                self._needs.setdefault(name, {}).setdefault(field, template.name)
            # Jinja's own is a chain of mappings, which is walked for every message.
            template.globals = dict(template.globals)
            self._parts[(name, locale.replace("_", "-").lower(), channel, part)] = template


def locale_chain(locale: str) -> list[str]:
    """``fr-CA`` -> ``fr-ca``, ``fr``, ``default``."""
    parts = locale.replace("_", "-").lower().split("-")
    return ["-".join(parts[:end]) for end in range(len(parts), 0, -1)] + [DEFAULT_LOCALE]


def _entries(content: dict[str, Any], file: str) -> Iterable[tuple[str, str, str, str]]:
    known = {*PARTS, *(f"digest_{part}" for part in PARTS)}
    for locale, channels in content.items():
        for channel, parts in channels.items():
            if not isinstance(parts, dict):
                raise TemplateError(f"{file}: {locale}.{channel} must be a table of parts")
            for part, text in parts.items():
                if part not in known:
                    accepted = ", ".join(sorted(known))
                    raise TemplateError(
                        f"{file}: {locale}.{channel}.{part} is unknown; parts are {accepted}"
                    )
                yield locale, channel, part, text


def _environment(autoescape: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=autoescape, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["plural"] = plural
    environment.filters["number"] = number
    return environment
