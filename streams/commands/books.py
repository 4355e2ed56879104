"""The commands about the books: ``explain``, ``reconcile``, ``redrive`` and ``forget``."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console

from streams.commands import forget as forgetting
from streams.commands import redrive as redriving
from streams.commands import what_if as comparing
from streams.commands.configuration import client_of, settings_of
from streams.commands.failures import CommandError
from streams.commands.kafka import kafka_failures
from streams.engine.log_writer import TopicsWrong
from streams.ledger import explain as explaining
from streams.ledger import report as reporting
from streams.ledger.client import LedgerClient, LedgerError
from streams.ledger.reconcile import ReconcileError
from streams.ledger.reconcile import reconcile as audit
from streams.privacy import Pseudonyms
from streams.settings import Settings


def explain(
    recipient: str,
    event_id: str | None,
    what_if: Path | None,
    last: int,
    ledger: str | None,
    as_json: bool,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    """Asks a ledger worker and prints the story; with ``what_if``, a comparison."""
    settings = settings_of(config, bootstrap)
    url = ledger or _ledger_url(settings.engine.web_host, settings.engine.web_port)
    if what_if is not None:
        return _compare(settings, what_if, url, recipient, event_id, last, as_json)

    secret = settings.ledger.internal_secret

    async def ask() -> explaining.ExplainDocument:
        async with LedgerClient(url, internal_secret=secret) as client:
            return await explaining.explain(client, recipient, event_id)

    with _ledger_failures(url):
        document = asyncio.run(ask())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(document)))
    else:
        explaining.render(document, Console())
    if not document.notifications:
        sys.exit(1)
    return None


def _compare(
    settings: Settings,
    what_if: Path,
    url: str,
    recipient: str,
    event_id: str | None,
    last: int,
    as_json: bool,
) -> None:
    """Prints what another catalogue would have made of a recipient's events."""
    other = settings_of(what_if, None)
    with _ledger_failures(url), kafka_failures(settings.kafka.bootstrap):
        found = asyncio.run(comparing.compare(settings, other, url, recipient, last))
    if event_id is not None:
        mine = [one for one in found.events if one.event_id == event_id]
        found = msgspec.structs.replace(found, events=mine)
    if not found.events:
        raise CommandError(
            f"no event{f' {event_id}' if event_id else ''} of {recipient} can be decided again",
            "Either nothing is recorded (see `flowstate explain`), or its records have left their"
            " topics.",
        )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        comparing.render(found, what_if.name, Console())


@contextlib.contextmanager
def _ledger_failures(url: str) -> Iterator[None]:
    """Turns a ledger that does not answer into a sentence with a way out."""
    try:
        yield
    except LedgerError as error:
        raise CommandError(
            f"the ledger at {url} cannot be asked: {error}",
            "Run `flowstate worker ledger` (or `flowstate up`), or name a running one with"
            " --ledger URL.",
        ) from error


def reconcile(
    received: tuple[Path, ...], ledger: str | None, config: Path | None, bootstrap: str | None
) -> None:
    """Audits the topics and prints the books; exit status 1 unless they balance."""
    settings = settings_of(config, bootstrap)
    with kafka_failures(settings.kafka.bootstrap):
        try:
            report = asyncio.run(
                audit(settings.kafka.bootstrap, settings.reconcile, received, ledger)
            )
        except ReconcileError as error:
            raise CommandError(str(error)) from error
    reporting.render(report, Console())
    sys.exit(report.exit_status)


def redrive(
    reason: str | None,
    recipient: str | None,
    yes: bool,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    """Says what can be tried again, and with ``--yes`` does it; exit 1 for a reason of none."""
    settings = settings_of(config, bootstrap)
    client = client_of(settings)
    with kafka_failures(settings.kafka.bootstrap):
        plan = asyncio.run(redriving.plan_redrive(client, reason, recipient))
        if reason is not None and reason not in plan.seen:
            raise redriving.no_such_reason(reason, plan.seen)
        for code, count in plan.reasons.most_common():
            click.echo(f"{count:>8,}  {code}")
        if plan.passed_over:
            click.echo(f"{plan.passed_over:>8,}  have no way back, or a newer one has")
        if not plan.again:
            click.echo("nothing to try again")
        elif yes:
            click.echo(f"{asyncio.run(redriving.redrive(plan, client)):,} sent again")
        else:
            click.echo(f"{len(plan.again):,} would be sent again: add --yes")


def forget(
    recipient: str,
    verify: bool,
    lift: bool,
    as_json: bool,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    """Forgets a recipient, or shows what is left; exit status 1 while anything is."""
    settings = settings_of(config, bootstrap)
    if not Pseudonyms(settings.privacy).has_key:
        raise CommandError(
            "privacy.hash_key is not set, so no mark could be left that says nothing by itself",
            "Give every role the same secret text of 16 characters or more, for example in"
            " FLOWSTATE_PRIVACY__HASH_KEY, and never change it.",
        )
    with kafka_failures(settings.kafka.bootstrap):
        try:
            if not verify:
                asyncio.run(forgetting.forget(settings, recipient, lift))
                return _say_done(lift)
            verdict = asyncio.run(forgetting.verify(settings, recipient))
        except (forgetting.NotForgotten, TopicsWrong) as error:
            raise CommandError(str(error), "Ask again with --verify.") from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(verdict)))
    else:
        _say_left(verdict)
    sys.exit(0 if verdict.tables_are_clean and not verdict.left else 1)


def _say_done(lift: bool) -> None:
    if lift:
        click.echo("from now on they are treated like anybody new")
    else:
        click.echo(
            "forgotten: no table holds them, and what still comes for them is refused\n"
            "Kafka's logs go by compaction and age: --verify says what is left, and until when"
        )


def _say_left(verdict: forgetting.Verdict) -> None:
    for table, is_marked in verdict.marks.items():
        click.echo(f"{table:<34}  {'refuses what comes' if is_marked else 'has no mark'}")
    for one in verdict.left:
        until = "" if one.gone_by_ms is None else f", gone by {explaining.clock(one.gone_by_ms)}"
        click.echo(f"{one.place:<34}  {one.what}{until}")
    if not verdict.left:
        click.echo(f"nothing is left of them in {verdict.records_read:,} records and both tables")


def _ledger_url(host: str, port: int) -> str:
    return f"http://{'127.0.0.1' if host in ('', '0.0.0.0') else host}:{port}"  # noqa: S104
