"""``flowstate demo``: a real trace through the whole system, then the books are balanced.

What: an embedded Kafka, the schema registry, stand-in providers and the three roles, each a real
process; everyone's preferences first, then 59,835 messages from a stock producer on stream time,
with garbage among them and, if asked, a role killed in mid-run. When nothing is left to do, an
audit accounts for every event from the topics alone.

Why stream time: 193 days pass in seconds, quiet hours and digests included, and two runs with the
same seed come to the same totals. The fingerprint printed at the end is of those (demo_verdict.py).

Invariants: no event is sent before every preference is acknowledged; the audit begins only when
every role has read everything and nothing waits for a time; the exit status is 0 only if
everything adds up.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from rich.console import Console

from streams import topics
from streams.codec import Codec
from streams.ledger.client import LedgerClient, LedgerError
from streams.ledger.explain import explain
from streams.ledger.explain import render as render_story
from streams.ledger.reconcile import reconcile
from streams.ledger.report import Report
from streams.local.demo_producer import SLICE_EVENTS, DemoProducer
from streams.local.demo_verdict import Verdict, fingerprint_of, show, what_is_wrong
from streams.local.demo_view import DemoView, Numbers
from streams.local.garbage import Garbage, garbage
from streams.local.population import population
from streams.local.progress import Progress, ProgressReader
from streams.local.signposts import show_stack, show_stories
from streams.local.stack import Stack, StackPlan, open_stack
from streams.local.stock_producer import StockProducer
from streams.local.stories import find_stories
from streams.local.supervisor import Event
from streams.local.trace import TraceEvent, events_of, read_trace, trace_path

DAY_MS = 24 * 3_600_000
POLL_S = 0.25
QUIET_POLLS = 6
"""So many looks in a row must find nothing to read and nothing new before that is called rest."""
REST_S_MAX = 240.0
KILL_SHARES = (0.25, 0.7)
"""The seeded moment of a kill: after a share of the events between these has been decided."""
RETRY_SHARE = 0.01
"""Share of deliveries whose first try a stand-in provider answers with 503."""
PARTITIONS = 8
MARK = ".flowstate-demo"
"""File in a data folder that says: a demo made this, a demo may wipe it."""
SHOWN_EVENTS = frozenset({"crashed", "signalled", "killed", "restarting"})
"""What is told of child processes; what is ordinary is left out."""


class DemoOptions(msgspec.Struct, frozen=True):
    """What was asked for on the command line."""

    seed: int
    data: Path
    kill: str | None = None
    events_max: int | None = None
    keep: bool = False
    config: Path | None = None


class DemoFailedError(Exception):
    """The demo could not be carried through; the message says why."""


def wipe(folder: Path) -> None:
    """Empties the demo's data folder. Refuses one with files that no demo has made."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARK).exists():
            raise DemoFailedError(
                f"{folder} has files in it that no demo has made; name an empty folder with --data"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


async def run_demo(options: DemoOptions, console: Console) -> int:
    """All of it; the exit status. Raises ``DemoFailedError`` and what ``open_stack`` raises."""
    wipe(options.data)
    crashes: list[str] = []
    plan = StackPlan(
        data=options.data,
        clock="stream",
        partitions=PARTITIONS,
        retry_share=RETRY_SHARE,
        seed=str(options.seed),
        config=options.config,
    )
    with DemoView(console) as view:

        def tell(event: Event) -> None:
            if event.kind == "crashed":
                crashes.append(event.name)
            if event.kind in SHOWN_EVENTS:
                view.say(f"  {event.text}" + (f"\n{event.tail}" if event.tail else ""))

        view.phase("starting Kafka, the registry, the providers and three roles")
        async with open_stack(plan, tell, view.say) as stack:
            view.say(f"to watch it in a browser: {stack.web_urls['ledger']}/overview?hours=8760")
            demo = Demo(options, stack, view)
            report = await _first_of(demo.run(), stack.supervisor.wait())
            view.finish()
            wrong = what_is_wrong(report, *demo.sent, options.kill, crashes)
            verdict = Verdict(report, fingerprint_of(report), wrong)
            show(verdict, console, view.elapsed_s)
            await _show_a_story(stack, options, console)
            if options.keep:
                show_stack(stack, console)
                await stack.supervisor.wait()
    return 1 if verdict.wrong else 0


async def _show_a_story(stack: Stack, options: DemoOptions, console: Console) -> None:
    """Explains one event of the run, and says how to look at others."""
    stories = await find_stories({"bootstrap_servers": stack.bootstrap})
    if not stories:
        return
    first, secret = stories[0], stack.settings.ledger.internal_secret
    console.print(f"\n$ flowstate explain {first.recipient_id} {first.event_id}", style="bold")
    try:
        async with LedgerClient(stack.web_urls["ledger"], internal_secret=secret) as client:
            document = await explain(client, first.recipient_id, first.event_id)
        render_story(document, console)
    except LedgerError as error:
        console.print(f"the ledger cannot be asked: {error}", style="red")
    if options.keep:
        console.print("\nThis and more of the run, in a browser:")
        show_stories(stories, "", console, stack)
        console.print("\nIn a terminal:")
        show_stories(stories[1:], f"--config {stack.config_file}", console)
    else:
        console.print(
            "\nNext: `flowstate demo --keep` to ask about others, `flowstate up` to send your own.",
            soft_wrap=True,
        )


class Demo:
    """One run over a stack that is up."""

    def __init__(self, options: DemoOptions, stack: Stack, view: DemoView) -> None:
        self._options = options
        self._stack = stack
        self._view = view
        contracts = Codec(None).contracts.current
        schemas = {
            topic: json.dumps(contracts[record].schema)
            for topic in (topics.PREFERENCES, topics.DESTINATIONS, *topics.EVENTS)
            if (record := topics.BY_NAME[topic].schema) is not None
        }
        headers = {name: contract.header for name, contract in contracts.items()}
        self._events = self._load()
        self._rubbish: list[Garbage] = garbage(options.seed, headers)
        self._producer = DemoProducer(
            StockProducer(stack.bootstrap, stack.registry_url, schemas),
            stack.settings.policy.categories,
            stack.settings.kafka.partitions,
        )
        self._progress = ProgressReader(
            {"bootstrap_servers": stack.bootstrap}, stack.settings.kafka.partitions
        )

    def _load(self) -> list[TraceEvent]:
        lines = read_trace(trace_path())[: self._options.events_max]
        return list(events_of(lines, self._options.seed))

    @property
    def sent(self) -> tuple[int, int]:
        """(events, unreadable records) of a whole run."""
        return len(self._events), len(self._rubbish)

    async def run(self) -> Report:
        """Everything that is sent, and the audit."""
        try:
            async with self._progress:
                return await self._run()
        finally:
            await asyncio.to_thread(self._producer.close)

    async def _run(self) -> Report:
        first_ms, last_ms = self._events[0].sent_at_ms, self._events[-1].sent_at_ms
        members = population(self._options.seed, first_ms - DAY_MS, self._stack.webhook_url)
        self._view.phase(f"{len(members):,} people choose")
        people = await asyncio.to_thread(self._producer.send_people, members, first_ms - DAY_MS)
        await self._until_rest()
        self._view.say(f"{people:,} preferences and destinations are in force")
        await self._send_events()
        self._view.phase("finishing what is under way")
        await self._until_rest()
        self._view.phase("time passes until nothing waits")
        await self._let_time_pass(last_ms)
        self._view.phase("balancing the books")
        return await self._audit()

    async def _send_events(self) -> None:
        draw = random.Random(f"{self._options.seed}/moments")
        slices = -(-len(self._events) // SLICE_EVENTS)
        rubbish_after = draw.randrange(slices)
        kill_after = int(len(self._events) * draw.uniform(*KILL_SHARES))
        self._view.phase(f"{len(self._events):,} messages")
        sending = asyncio.create_task(
            asyncio.to_thread(
                self._producer.send_events, self._events, self._rubbish, rubbish_after
            )
        )
        try:
            if self._options.kill:
                await self._kill(self._options.kill, kill_after, sending)
            while not sending.done():
                await self._look()
                await asyncio.sleep(POLL_S)
            await sending
        finally:
            self._producer.stop()
        used = ", ".join(dict.fromkeys(self._producer.compressions))
        self._view.say(
            f"{len(self._events):,} events acknowledged (Avro through a stock serializer; {used}),"
            f" and {len(self._rubbish)} unreadable records"
        )

    async def _kill(self, role: str, after: int, sending: asyncio.Task[None]) -> None:
        """SIGKILL once so many events are decided; the supervisor starts the role again."""
        while (await self._look()).finished("decide", topics.EVENTS) < after:
            if sending.done() and sending.exception():
                return
            await asyncio.sleep(POLL_S / 5)
        self._stack.supervisor.kill(role)

    async def _until_rest(self) -> None:
        """Until every role has read everything and nothing new comes for a while."""
        deadline = asyncio.get_running_loop().time() + REST_S_MAX
        quiet = 0
        before: dict[tuple[str, int], int] = {}
        while quiet < QUIET_POLLS:
            progress = await self._look()
            same = progress.at_rest() and progress.ends == before
            quiet, before = (quiet + 1 if same else 0), progress.ends
            if asyncio.get_running_loop().time() > deadline:
                lag = {role: progress.lag(role) for role in progress.done}
                raise DemoFailedError(f"not at rest after {REST_S_MAX:.0f} s; lag: {lag}")
            await asyncio.sleep(POLL_S)

    async def _let_time_pass(self, last_ms: int) -> None:
        """Ticks, day by day, far enough for every digest, quiet night and limit to end."""
        for days in (1, 2, 4, 8, 16):
            await asyncio.to_thread(self._producer.move_on, last_ms + days * DAY_MS)
        await self._until_rest()

    async def _look(self) -> Progress:
        progress = await self._progress.read()
        published = self._producer.events_sent
        received = await _received(self._stack.received_url)
        self._view.show(
            Numbers(
                published=published,
                published_total=len(self._events),
                decided=progress.finished("decide", topics.EVENTS),
                decided_total=progress.end(topics.EVENTS),
                received=received,
                lag={role: progress.lag(role) for role in progress.done},
            )
        )
        return progress

    async def _audit(self) -> Report:
        return await reconcile(
            self._stack.bootstrap,
            self._stack.settings.reconcile,
            [self._stack.received_file],
            self._stack.web_urls["ledger"],
        )


async def _received(url: str) -> dict[str, int]:
    """Messages that the stand-in providers accepted, by kind; empty when they do not answer."""
    try:
        timeout = aiohttp.ClientTimeout(total=1)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            body: dict[str, Any] = await answer.json()
            return dict(body["received"])
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
        return {}


async def _first_of(
    wanted: Coroutine[Any, Any, Report], watch: Coroutine[Any, Any, None]
) -> Report:
    """The wanted result, unless ``watch`` (which only ever fails) fails first."""
    work, guard = asyncio.create_task(wanted), asyncio.create_task(watch)
    try:
        await asyncio.wait({work, guard}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            await guard
            raise DemoFailedError("every process has ended before the demo did")
        return await work
    finally:
        for task in (work, guard):
            task.cancel()
        await asyncio.gather(work, guard, return_exceptions=True)
