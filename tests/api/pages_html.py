"""Reads a page as a program that helps a person would: fields, their labels, headings, ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Page:
    """What is on a page."""

    language: str = ""
    title: str = ""
    ids: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    fields: list[dict[str, str | None]] = field(default_factory=list)
    unlabelled: list[dict[str, str | None]] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""

    def form(self) -> list[tuple[str, str]]:
        """What a browser would send if the form were sent as it is."""
        found = []
        for each in self.fields:
            name, kind = each.get("name"), each.get("type")
            if not name or "disabled" in each:
                continue
            if kind in ("checkbox", "radio") and "checked" not in each:
                continue
            found.append((name, each.get("value") or ""))
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._labels_for: set[str] = set()
        self._in_label = 0
        self._stack: list[str] = []
        self._select: dict[str, str | None] | None = None
        self._option: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        page = self.page
        page.tags.append((tag, values))
        self._stack.append(tag)
        if values.get("id"):
            page.ids.append(str(values["id"]))
        if tag == "html":
            page.language = values.get("lang") or ""
        if tag == "label":
            self._in_label += 1
            self._labels_for.add(values.get("for") or "")
        if tag in ("input", "select") and values.get("type") != "hidden":
            is_labelled = self._in_label or values.get("id") in self._labels_for
            if not is_labelled:
                page.unlabelled.append(values)
        if tag == "input":
            page.fields.append(values)
        if tag == "select":
            self._select = {**values, "value": None}
            page.fields.append(self._select)
        if tag == "option" and self._select is not None:
            self._option = values
            if "value" in values and ("selected" in values or self._select["value"] is None):
                self._select["value"] = values["value"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self._in_label -= 1
        if tag == "select":
            self._select = None

    def handle_data(self, data: str) -> None:
        page = self.page
        page.text += data
        tag = self._stack[-1] if self._stack else ""
        if tag == "title" and data.strip():
            page.title = page.title or data.strip()
        if tag in ("h1", "h2") and data.strip():
            page.headings.append(data.strip())
        option, select = self._option, self._select
        if tag != "option" or option is None or select is None or not data.strip():
            return
        if "value" not in option and ("selected" in option or select["value"] is None):
            select["value"] = data.strip()


def read(html: str) -> Page:
    """Parses a page."""
    reader = _Reader()
    reader.feed(html)
    return reader.page
