"""The commands for this machine: ``up``, ``demo``, ``broker``, ``providers`` and ``registry``.

Each turns what is expected to go wrong (a port taken, a child that crashes) into a sentence, and
leaves no process behind, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import uvloop
from rich.console import Console

from streams.commands.configuration import settings_of
from streams.commands.failures import CommandError
from streams.commands.kafka import kafka_failures
from streams.engine.topics_admin import TopicsWrong
from streams.local.broker import BrokerError, EmbeddedBroker
from streams.local.demo import DemoFailedError, DemoOptions, run_demo
from streams.local.processes import is_port_free, port_owner
from streams.local.providers import Ports, ProviderServers
from streams.local.registry import serve
from streams.local.signposts import show_stack
from streams.local.stack import StackPlan, open_stack
from streams.local.stock_producer import NotAcknowledgedError
from streams.local.supervisor import ChildFailed, Event
from streams.local.trace import TraceError

Result = TypeVar("Result")

REGISTRY_PORT = 8081
WEB_PORTS = {"ledger": 6066, "decide": 6067, "deliver": 6068}
"""The ledger has the default one, so that `flowstate explain` needs no address."""
API_PORT = 8080
API_PORT = 8080
PROVIDER_PORTS = Ports()


def demo(
    seed: int,
    kill: str | None,
    data: Path | None,
    events: int | None,
    keep: bool,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    """Runs the demo; the exit status says whether everything added up."""
    if bootstrap is not None:
        raise click.UsageError("the demo runs on a Kafka of its own: leave --bootstrap out")
    options = DemoOptions(seed, data or Path(".flowstate/demo"), kill, events, keep, config)
    settings_of(config, None)
    with _failures():
        raise SystemExit(_until_signal(run_demo(options, Console(highlight=False))))


def up(data: Path | None, port: int, config: Path | None, bootstrap: str | None) -> None:
    """Runs everything until Ctrl-C."""
    settings_of(config, bootstrap)
    plan = StackPlan(
        data=data or Path(".flowstate/up"),
        config=config,
        bootstrap=bootstrap,
        kafka_port=port,
        registry_port=REGISTRY_PORT,
        web_ports=WEB_PORTS,
        provider_ports=PROVIDER_PORTS,
        api_port=API_PORT,
    )
    taken = [REGISTRY_PORT, API_PORT, *WEB_PORTS.values(), *_numbers(PROVIDER_PORTS)]
    _need_ports(taken, plan.data)
    console = Console(highlight=False)
    with _failures():
        _until_signal(_stay_up(plan, console))


async def _stay_up(plan: StackPlan, console: Console) -> None:
    def tell(event: Event) -> None:
        console.print(event.text + (f"\n{event.tail}" if event.tail else ""))

    console.print("starting ...")
    async with open_stack(plan, tell, console.print) as stack:
        show_stack(stack, console)
        await stack.supervisor.wait()


def broker(data: Path, port: int, config: Path | None, bootstrap: str | None) -> None:
    """Becomes the broker: this process is replaced by Kafka's."""
    with _failures():
        embedded = EmbeddedBroker(data, port=port)
        command = embedded.prepare(lambda text: click.echo(text, err=True))
    click.echo(f"Kafka listens on {embedded.bootstrap}; its log is {embedded.log_path}")
    os.execv(command[0], command)  # noqa: S606 - a command line that we made


def providers(
    data: Path,
    ports: str | None,
    retry_share: float,
    seed: str,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    """Runs the stand-in providers until Ctrl-C."""
    wanted = _ports_of(ports)
    _need_ports(_numbers(wanted), data)

    async def run() -> None:
        servers = ProviderServers(data, wanted, retry_share, seed)
        await servers.start()
        try:
            used = servers.ports
            click.echo(
                f"APNs https://127.0.0.1:{used.apns}, HTTP http://127.0.0.1:{used.http},"
                f" SMTP 127.0.0.1:{used.smtp}; received.jsonl is in {data}"
            )
            await asyncio.Event().wait()
        finally:
            await servers.stop()

    with _failures():
        _until_signal(run())


def registry(data: Path, host: str, port: int, config: Path | None, bootstrap: str | None) -> None:
    """Serves the schemas until Ctrl-C."""
    _need_ports([port], data)

    def ready(url: str) -> None:
        click.echo(f"the schema registry listens on {url}; try: curl {url}/subjects")

    with _failures():
        _until_signal(serve(data, host, port, ready))


def _until_signal(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs to the end. Ctrl-C or SIGTERM lets the work put everything away, then exits with the
    status that a shell expects; asked a second time, it ends at once (and the children with it).
    """
    asked: list[signal.Signals] = []

    async def run() -> Result:
        task = asyncio.ensure_future(work)

        def stop(number: signal.Signals) -> None:
            if asked:
                os._exit(128 + number)
            asked.append(number)
            click.echo("stopping ...", err=True)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return await task

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run())
    except asyncio.CancelledError:
        raise SystemExit(128 + asked[0] if asked else 1) from None


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """What is expected to go wrong on one machine, as a failure of the command."""
    try:
        with kafka_failures("the embedded broker"):
            yield
    except ChildFailed as failure:
        remedy = "Its whole log is in the logs folder of the data folder."
        raise CommandError(str(failure), remedy) from failure
    except (BrokerError, TopicsWrong, TraceError, DemoFailedError, NotAcknowledgedError) as error:
        raise CommandError(str(error)) from error


def _need_ports(ports: list[int], data: Path) -> None:
    """Raises ``CommandError`` naming who has a port that is needed."""
    for port in ports:
        if port and not is_port_free(port):
            owner = port_owner(port) or "another program"
            raise CommandError(
                f"port {port} is taken by {owner}",
                f"Stop that (is another Flowstate running on {data}?), or choose other ports.",
            )


def _ports_of(text: str | None) -> Ports:
    if text is None:
        return PROVIDER_PORTS
    try:
        apns, http, smtp = (int(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError("--ports takes three numbers, as in 8443,8480,8425") from None
    return Ports(apns, http, smtp)


def _numbers(ports: Ports) -> list[int]:
    return [ports.apns, ports.http, ports.smtp]
