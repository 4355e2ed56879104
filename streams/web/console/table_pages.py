"""Tables: each Faust table by key or prefix, page by page, raw and decoded.

A whole key leads to its partition; a prefix is looked for in one partition, or in all of them in
turn. The cursor says in which partition and after which key to go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streams import tables
from streams.api.problems import ProblemError, refuse
from streams.api.routes import Parameter
from streams.web.console.asking import Asking
from streams.web.console.masking import masked_row
from streams.web.console.page import Page, Visit
from streams.web.table_view import KINDS, TableRow

LIMIT_MAX = 100
PARAMETERS = (
    Parameter("kind", "query", f"Kind of key: {', '.join(KINDS)}."),
    Parameter("key", "query", "A whole key: a recipient."),
    Parameter("prefix", "query", "How the keys begin."),
    Parameter("partition", "query", "One partition; all of them in turn without it.", int),
    Parameter("cursor", "query", "Go on here: the cursor of the page before."),
    Parameter("limit", "query", "How many rows at most.", int),
)


class TableDocument(msgspec.Struct, frozen=True):
    """One table."""

    name: str
    role: str
    changelog: str
    key_forms: list[tuple[str, str]]


class TablesDocument(msgspec.Struct, frozen=True):
    """All tables."""

    tables: list[TableDocument]


class BrowsedRow(msgspec.Struct, frozen=True):
    """A pair with its partition."""

    partition: int
    row: TableRow


class BrowseDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Some pairs of a table."""

    table: TableDocument
    kind: str
    kinds: list[str]
    """All that there are."""
    by_recipient: bool
    """Keys of this kind are recipients."""
    key: str
    prefix: str
    partition: int | None
    limit: int
    rows: list[BrowsedRow]
    cursor: str | None
    """Where to go on; ``None`` when this was all."""
    is_masked: bool
    unavailable: list[int] = []
    """Partitions that did not answer: what they hold is missing here."""


class TablePages:
    """The list, and looking into one."""

    def __init__(self, asking: Asking, rows_max: int) -> None:
        self._asking = asking
        self._rows_max = rows_max

    def pages(self) -> list[Page]:
        """Its pages."""
        return [
            Page(
                path="/tables",
                operation="tables",
                title="Tables",
                doc="Every stateful table.",
                template="tables.html",
                document=TablesDocument,
                load=self.all,
                rows=lambda document: [
                    {"name": t.name, "role": t.role, "changelog": t.changelog}
                    for t in document.tables
                ],
                in_navigation=True,
            ),
            Page(
                path="/tables/{name}",
                operation="table",
                title="Table",
                doc="Pairs of a table, by key or prefix, raw and decoded. Without the scope reveal"
                " addresses and bodies are masked and raw bytes left out.",
                template="table.html",
                document=BrowseDocument,
                load=self.browse,
                rows=rows,
                parameters=(
                    Parameter("name", "path", "Name of the table.", required=True), *PARAMETERS,
                ),
            ),
        ]  # fmt: skip

    async def all(self, visit: Visit) -> TablesDocument:
        """Every table."""
        return TablesDocument([_described(spec) for spec in tables.TABLES])

    async def browse(self, visit: Visit) -> BrowseDocument:
        """Some pairs. Raises ``ProblemError``: 404, 422, 503."""
        found = [spec for spec in tables.TABLES if spec.name == visit.arguments["name"]]
        if not found:
            raise refuse("not_found", "There is no such table; /tables has them all.")
        kind = visit.text("kind", "profile")
        if kind not in KINDS:
            raise refuse("invalid", f"kind must be one of {', '.join(KINDS)}.")
        by_recipient = KINDS[kind].by_recipient
        key, prefix = visit.request.query.get("key", ""), visit.request.query.get("prefix", "")
        limit = visit.whole("limit", min(20, self._rows_max), 1, LIMIT_MAX)
        number = visit.text("partition")
        first, after = _cursor(visit.text("cursor"))
        places = [visit.whole("partition", 0, 0, self._asking.partitions - 1)] if number else (
            [self._asking.partition(key)] if key and by_recipient
            else list(range(first, self._asking.partitions))
        )  # fmt: skip
        if by_recipient and key:
            await self._asking.note(visit, f"table {kind}", key)
        got, cursor, missing = await self._gather(kind, key or prefix, places, after, limit)
        if key:
            got, cursor = [one for one in got if one.row.key == key], None
        elif by_recipient:
            await self._asking.note_all(visit, f"table {kind}", (one.row.key for one in got))
        return BrowseDocument(
            table=_described(found[0]),
            kind=kind,
            kinds=list(KINDS),
            by_recipient=by_recipient,
            key=key,
            prefix=prefix,
            partition=places[0] if number else None,
            limit=limit,
            rows=got if visit.may_reveal else [_masked(one) for one in got],
            cursor=cursor,
            is_masked=not visit.may_reveal,
            unavailable=missing,
        )

    async def _gather(
        self, kind: str, prefix: str, places: list[int], after: str, limit: int
    ) -> tuple[list[BrowsedRow], str | None, list[int]]:
        """(pairs, where to go on, partitions that did not answer)."""
        got: list[BrowsedRow] = []
        missing: list[int] = []
        for partition in places:
            left = limit - len(got)
            if left <= 0:
                return got, f"{partition}:", missing
            try:
                page = await self._asking.table(partition, kind, prefix, after, left)
            except ProblemError as error:
                if error.problem.status != 503 or len(places) == 1:
                    raise
                missing.append(partition)
                continue
            finally:
                after = ""
            got += [BrowsedRow(partition, row) for row in page.rows]
            if page.after is not None:
                return got, f"{partition}:{page.after}", missing
        return got, None, missing


def _cursor(text: str) -> tuple[int, str]:
    """(partition, key after which to go on). Raises ``ProblemError`` (422)."""
    number, _, after = text.partition(":")
    if not text:
        return 0, ""
    try:
        bytes.fromhex(after)
        return int(number), after
    except ValueError as error:
        raise refuse("invalid", "cursor is not one of ours.") from error


def _masked(one: BrowsedRow) -> BrowsedRow:
    return BrowsedRow(one.partition, masked_row(one.row))


def _described(spec: tables.TableSpec) -> TableDocument:
    return TableDocument(spec.name, spec.role, spec.changelog, list(spec.keys))


def rows(document: BrowseDocument) -> Iterable[dict[str, Any]]:
    """Pairs for CSV."""
    for one in document.rows:
        yield {
            "partition": one.partition,
            "key": one.row.key,
            "value_bytes": one.row.value_bytes,
            "decoded": one.row.decoded,
            "value_hex": one.row.value_hex,
        }
