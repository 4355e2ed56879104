"""Choices of a recipient: document to model and back, versions, and what is not a choice.

Pure. A change is either a whole document or a merge patch (RFC 7396); the result is checked
against the catalogue before anything is written, and every mistake is named at once. What was
stored before and would not be accepted today (a category that is gone) may stay as it is: only
what the change touches must be right.

Source: https://www.rfc-editor.org/rfc/rfc7396 (merge patch)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from babel import Locale, UnknownLocaleError

from streams.api.problems import FieldError
from streams.core.local_time import is_zone
from streams.core.model import CHANNEL_OF_KIND, Preferences, QuietWindow
from streams.core.policy import Policy
from streams.core.preferences import version_of
from streams.web.state_documents import PreferencesDocument, QuietWindowDocument

CHANNELS = tuple(dict.fromkeys(CHANNEL_OF_KIND.values()))
DIGEST_CHOICE = re.compile(r"immediate|hourly|daily@([01][0-9]|2[0-3]):[0-5][0-9]")
MUTED = re.compile(r"(key|actor):.+", re.DOTALL)
DOCUMENT_BYTES_MAX = 65_536
"""Of the whole document as JSON: a preference is state of one recipient."""


def etag(preferences: Preferences) -> str:
    """Version of choices as a quoted entity tag."""
    return f'"{version_of(preferences)}"'


def to_document(preferences: Preferences) -> PreferencesDocument:
    """Model -> document. Nothing is judged: what is stored is shown."""
    return PreferencesDocument(
        default=preferences.default,
        categories=preferences.categories,
        channels=preferences.channels,  # type: ignore[arg-type]
        cells=preferences.cells,
        zone=preferences.zone,
        locale=preferences.locale,
        quiet_hours=[
            QuietWindowDocument(window.start_minute, window.end_minute, window.weekdays)
            for window in preferences.quiet_hours
        ],
        snooze_until_ms=preferences.snooze_until_ms,
        muted=list(preferences.muted),
        digests=preferences.digests,
        channel_order={k: list(v) for k, v in preferences.channel_order.items()},  # type: ignore[arg-type]
        updated_at_ms=preferences.updated_at_ms,
    )


def to_model(document: PreferencesDocument, updated_at_ms: int) -> Preferences:
    """Document -> model."""
    return Preferences(
        default=document.default,
        categories=document.categories,
        channels={str(name): choice for name, choice in document.channels.items()},
        cells=document.cells,
        zone=document.zone,
        locale=document.locale,
        quiet_hours=tuple(
            QuietWindow(window.start_minute, window.end_minute, window.weekdays)
            for window in document.quiet_hours
        ),
        snooze_until_ms=document.snooze_until_ms,
        muted=tuple(document.muted),
        digests=document.digests,
        channel_order={name: tuple(order) for name, order in document.channel_order.items()},
        updated_at_ms=updated_at_ms,
    )


def merged(present: Any, patch: Any) -> Any:
    """RFC 7396: ``null`` takes away, objects merge, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(present) if isinstance(present, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def changed(
    present: Preferences,
    replace: dict[str, Any] | None,
    merge: dict[str, Any] | None,
    at_ms: int,
    policy: Policy,
) -> Preferences | list[FieldError]:
    """The choices after a change, or everything that is wrong with it."""
    before = msgspec.to_builtins(to_document(present))
    wished = merged(before, merge) if replace is None else replace
    wished.pop("updated_at_ms", None)
    try:
        document = msgspec.convert(wished, PreferencesDocument)
    except msgspec.ValidationError as error:
        return [field_error(error)]
    if len(msgspec.json.encode(wished)) > DOCUMENT_BYTES_MAX:
        return [FieldError(f"The document is larger than {DOCUMENT_BYTES_MAX} bytes.")]
    wrong = list(_problems(document, to_document(present), policy))
    return wrong or to_model(document, at_ms)


def same_choices(first: Preferences, second: Preferences) -> bool:
    """Equal but for the time at which they were made."""
    return msgspec.structs.replace(first, updated_at_ms=0) == msgspec.structs.replace(
        second, updated_at_ms=0
    )


def field_error(error: msgspec.ValidationError) -> FieldError:
    """msgspec's message, with its path as a JSON pointer."""
    text, found, path = str(error).partition(" - at `")
    if not found:
        return FieldError(text)
    if path.startswith("key"):
        return FieldError(f"{text} (a key)", pointer=_pointer(path.partition("`$")[2] or "$"))
    return FieldError(text, pointer=_pointer(path.rstrip("`").removeprefix("$")))


def _pointer(path: str) -> str:
    """``.data[...][0]`` -> ``/data/*/0``."""
    parts = re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", path.rstrip("`"))
    names = [name or ("*" if place == "..." else place) for name, place in parts]
    return "".join(f"/{escaped(name)}" for name in names)


def escaped(name: str) -> str:
    """A name as a JSON pointer has it (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _problems(
    document: PreferencesDocument, before: PreferencesDocument, policy: Policy
) -> Iterator[FieldError]:
    """What the catalogue and the clock say of a document; unchanged parts are not judged."""
    if document.zone != before.zone and not is_zone(document.zone):
        yield FieldError("Not an IANA time zone; for example Europe/Lisbon.", "/zone")
    if document.locale != before.locale and not _is_locale(document.locale):
        yield FieldError("Not a language tag; for example pt-PT.", "/locale")
    for name in ("categories", "digests", "channel_order"):
        known = getattr(before, name)
        for category in getattr(document, name):
            if category not in policy.categories and category not in known:
                yield _unknown_category(category, f"/{name}/{escaped(category)}", policy)
    for cell in document.cells:
        if cell not in before.cells:
            yield from _cell_problems(cell, policy)
    for category, choice in document.digests.items():
        if not DIGEST_CHOICE.fullmatch(choice) and before.digests.get(category) != choice:
            detail = "Expected immediate, hourly or daily@HH:MM."
            yield FieldError(detail, f"/digests/{escaped(category)}")
    for place, muted in enumerate(document.muted):
        if not MUTED.fullmatch(muted) and muted not in before.muted:
            yield FieldError("Expected key:... or actor:...", f"/muted/{place}")


def _cell_problems(cell: str, policy: Policy) -> Iterator[FieldError]:
    category, slash, channel = cell.rpartition("/")
    pointer = f"/cells/{escaped(cell)}"
    if not slash or channel not in CHANNELS:
        yield FieldError(f"Expected category/channel with one of {', '.join(CHANNELS)}.", pointer)
    elif category not in policy.categories:
        yield _unknown_category(category, pointer, policy)


def _unknown_category(category: str, pointer: str, policy: Policy) -> FieldError:
    known = ", ".join(sorted(policy.categories)[:20])
    return FieldError(f"The catalogue has no category {category[:64]!r}; it has {known}.", pointer)


def _is_locale(tag: str) -> bool:
    try:
        Locale.parse(tag, sep="-")
    except (ValueError, UnknownLocaleError, TypeError):
        return False
    return True
