"""Counting in a language: which plural form a number takes, and how it is written.

Babel carries the CLDR rules; Russian has four forms, Japanese one. Both functions take the locale
from the template's own context, so that a template never names it.
"""

from __future__ import annotations

from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.numbers import format_decimal
from jinja2 import pass_context
from jinja2.runtime import Context

LOCALES_MAX = 512
"""Bound of the cache of parsed locales."""


@pass_context
def plural(context: Context, count: int, **forms: str) -> str:
    """``plural(count, one="1 message", other="{n} messages")`` in the delivery's locale."""
    locale = parsed(str(context.get("locale", "en")))
    form = forms.get(locale.plural_form(count)) or forms["other"]
    return form.replace("{n}", number(context, count))


@pass_context
def number(context: Context, value: int) -> str:
    """``value`` with the digits and separators of the delivery's locale."""
    if -1000 < value < 1000:
        return str(value)
    return format_decimal(value, locale=parsed(str(context.get("locale", "en"))))


@lru_cache(LOCALES_MAX)
def parsed(locale: str) -> Locale:
    """Locale of a BCP 47 tag; its language alone, or English, when the tag is unknown."""
    tag = locale.replace("_", "-")
    for candidate in (tag, tag.split("-")[0], "en"):
        try:
            return Locale.parse(candidate, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return Locale("en")
