"""The ``flowstate`` command: names, options and help. What each does is in ``streams/commands``.

Commands import what they need when they run, so that ``flowstate --help`` answers at once and a
mistake in one part of the product never takes the others' commands away. A command's options are
handed on by name; the function that takes them says their types.

Exit codes: 0 done, 1 failed (one sentence on standard error that says what and what to do),
2 used wrongly (click says how).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from streams.commands.failures import CommandError

Command = TypeVar("Command", bound=Callable[..., Any])

ROLES = ("decide", "deliver", "ledger")
SEED_DEFAULT = 7
POSITIVE = click.FloatRange(0, min_open=True)
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


class Failing(click.Group):
    """Prints expected failures as a sentence and exits with 1; anything else is a bug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CommandError as failure:
            click.echo(f"flowstate: {failure}", err=True)
            ctx.exit(1)
        except BrokenPipeError:  # `flowstate tail ... | head` has seen enough
            sys.stderr.close()
            ctx.exit(0)


def configured(command: Command) -> Command:
    """Gives a command ``--config`` and ``--bootstrap``, as all have them."""
    options = (
        click.option("--bootstrap", metavar="HOST:PORT", help="Kafka, over what the file says."),
        click.option("--config", type=FILE, help="Configuration; ./flowstate.toml unless named."),
    )
    for option in options:
        command = option(command)
    return command


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    cls=Failing,
)
@click.version_option(package_name="flowstate", prog_name="flowstate")
def main() -> None:
    """Flowstate decides, for every event, who is told, how and when, and can say why.

    Start with `flowstate demo` (minutes, nothing to install), then `flowstate up`.
    """


# ------------------------------------------------------------------------------- on this machine


@main.command(short_help="Run everything here, with its own Kafka, until Ctrl-C.")
@click.option("--data", type=FOLDER, help="Data folder, kept between runs.  [.flowstate/up]")
@click.option("--port", type=int, default=9092, show_default=True, help="Kafka's; 0: any free.")
@configured
def up(**options: Any) -> None:
    """Run everything here, with its own Kafka, until Ctrl-C.

    Broker, schema registry, stand-in providers and all roles, with the pages for people at
    http://127.0.0.1:6066. Data stays from one run to the next. With --bootstrap, Kafka is yours
    and only the rest is started.

    \b
    Example:
      flowstate up
      flowstate publish events.normal examples/events.jsonl     # in another terminal
    """
    from streams.commands import local

    local.up(**options)


@main.command(short_help="Send 59,835 real messages through it, and check every one.")
@click.option("--seed", type=int, default=SEED_DEFAULT, show_default=True, help="Draws people.")
@click.option("--kill", type=click.Choice(ROLES), help="SIGKILL that role in mid-run.")
@click.option("--data", type=FOLDER, help="Data folder, wiped first.  [.flowstate/demo]")
@click.option("--events", type=click.IntRange(1), help="Only the first so many events.")
@click.option("--keep", is_flag=True, help="Stay up afterwards, to explore, until Ctrl-C.")
@configured
def demo(**options: Any) -> None:
    """Send 59,835 real messages through the whole system, and check every one.

    Preferences and addresses for 1,899 members, then the trace through a stock Avro producer,
    on stream time; then the books are balanced: accepted = ended + open, remainder 0. Exits
    with 1 if anything does not add up. With --keep the pages stay up, to see any event explained.

    \b
    Example:
      flowstate demo
      flowstate demo --kill decide     # comes to the same totals
    """
    from streams.commands import local

    local.demo(**options)


@main.command(short_help="Run the embedded Kafka alone.")
@click.option("--data", type=FOLDER, default=".flowstate/broker", show_default=True)
@click.option("--port", type=int, default=9092, show_default=True, help="0: any free.")
@configured
def broker(**options: Any) -> None:
    """Run the embedded Kafka alone, until Ctrl-C.

    A real Apache Kafka (KRaft, one node) that needs neither Java nor Docker. The first start
    fetches 46 MB.

    \b
    Example:
      flowstate broker --port 9092
    """
    from streams.commands import local

    local.broker(**options)


@main.command(short_help="Run local stand-ins for APNs, FCM, SMS, SMTP and webhooks.")
@click.option("--data", type=FOLDER, default=".flowstate/providers", show_default=True)
@click.option("--ports", metavar="A,H,S", help="Of APNs, HTTP and SMTP.  [8443,8480,8425]")
@click.option("--retry-share", type=click.FloatRange(0, 1), default=0.0, help="Answered 503 once.")
@click.option("--seed", default="", help="Draws which those are.")
@configured
def providers(**options: Any) -> None:
    """Run local servers that stand in for APNs, FCM, SMS, SMTP and webhooks.

    Each writes what it receives to received.jsonl, for `flowstate reconcile`.

    \b
    Example:
      flowstate providers --retry-share 0.01
    """
    from streams.commands import local

    local.providers(**options)


@main.command(short_help="Serve schemas/ as a schema registry.")
@click.option("--data", type=FOLDER, default=".flowstate/registry", show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 in a container.")
@click.option("--port", type=int, default=8081, show_default=True, help="0: any free.")
@configured
def registry(**options: Any) -> None:
    """Serve schemas/ as a schema registry, for stock Avro serializers.

    \b
    Example:
      flowstate registry &
      curl http://127.0.0.1:8081/subjects
    """
    from streams.commands import local

    local.registry(**options)


# ----------------------------------------------------------------------------------- on a cluster


@main.command(short_help="Run one worker of a role: decide, deliver, ledger or api.")
@click.argument("role", type=click.Choice((*ROLES, "api")))
@configured
def worker(**options: Any) -> None:
    """Run one worker of a ROLE: decide, deliver, ledger or api.

    Add workers to scale a role; Kafka shares the partitions out among them (api has none: put a
    balancer before it). SIGTERM stops it cleanly. It exits with a code that is not 0 when it
    must not go on: restart it then.

    \b
    Example:
      flowstate worker decide --bootstrap kafka-1:9092
    """
    from streams.commands import cluster

    cluster.worker(**options)


@main.group(short_help="Create Flowstate's topics on a cluster, or check them.")
def topics() -> None:
    """Create Flowstate's topics on a cluster, or check them."""


@topics.command("create", short_help="Create the topics that are missing.")
@configured
def topics_create(**options: Any) -> None:
    """Create the topics that are missing; existing ones are left as they are.

    Partitions and replication are in flowstate.toml under [kafka]. The number of partitions
    cannot be changed later.

    \b
    Example:
      flowstate topics create --bootstrap kafka-1:9092
    """
    from streams.commands import cluster

    cluster.topics_create(**options)


@topics.command("check", short_help="Say what about the topics is not as it must be.")
@configured
def topics_check(**options: Any) -> None:
    """Say what about the topics is not as it must be; exit 1 if anything is.

    \b
    Example:
      flowstate topics check
    """
    from streams.commands import cluster

    cluster.topics_check(**options)


@main.command(
    short_help="Make, list and revoke keys of the HTTP API.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def keys(arguments: tuple[str, ...]) -> None:
    """Hands everything on to the commands of ``streams/commands/keys.py``, `--help` included."""
    from streams.commands.keys import keys as key_commands

    key_commands.main(list(arguments), prog_name="flowstate keys", standalone_mode=False)


@main.command(short_help="Draw every topic, table and role.")
@click.option("--write", type=FILE, help="Write it to this file, not to standard output.")
@configured
def topology(**options: Any) -> None:
    """Draw every topic, table and role, as in topology.md.

    \b
    Example:
      flowstate topology --write topology.md
    """
    from streams.commands import topology as drawing

    drawing.topology(**options)


@main.group("config", short_help="Check the configuration, or look keys up.")
def config_group() -> None:
    """Look at the configuration."""


@config_group.command("check", short_help="Say everything that is wrong with flowstate.toml.")
@configured
def config_check(**options: Any) -> None:
    """Say everything that is wrong with flowstate.toml, each with its key and what would do.

    \b
    Example:
      flowstate config check --config production.toml
    """
    from streams.commands import cluster

    cluster.config_check(**options)


@config_group.command("reference", short_help="Print every key, its default and its meaning.")
@click.option("--write", type=FILE, help="Write it to this file, not to standard output.")
@configured
def config_reference(**options: Any) -> None:
    """Print every key of flowstate.toml with its default and its meaning.

    \b
    Example:
      flowstate config reference | less
    """
    from streams.commands import reference

    reference.config_reference(**options)


# ------------------------------------------------------------------------------------ the records


@main.command(short_help="Publish JSON lines to a topic, as Avro.")
@click.argument("topic")
@click.argument("file", type=click.File("rb"))
@click.option("--check", is_flag=True, help="Only validate; send nothing.")
@configured
def publish(**options: Any) -> None:
    """Publish JSON lines from FILE (- is standard input) to TOPIC, as Avro.

    Lines that are not valid, by their schema or by the catalogue, are reported by number and not
    sent. Done means that Kafka has acknowledged. Times that are required and left out are now.

    \b
    Example:
      echo '{"event_id": "e1", "recipient_id": "ann", "category": "message"}' \\
        | flowstate publish events.normal -
    """
    from streams.commands import records

    records.publish(**options)


@main.command(short_help="Show a topic's records as JSON lines.")
@click.argument("topic")
@click.option("--last", type=click.IntRange(0), default=0, help="Begin so many before the end.")
@click.option("--from-beginning", is_flag=True, help="Begin with the first record there is.")
@click.option("--no-follow", is_flag=True, help="Stop at the end instead of waiting for more.")
@click.option("--recipient", metavar="ID", help="Only this recipient's records.")
@click.option("--show-addresses", is_flag=True, help="Do not mask addresses and tokens.")
@configured
def tail(**options: Any) -> None:
    """Show a TOPIC's records as JSON lines, as they come.

    \b
    Example:
      flowstate tail decisions --last 5
      flowstate tail dead-letters --from-beginning --no-follow
      flowstate tail looks --from-beginning --no-follow --recipient ann   # who looked at her
    """
    from streams.commands import records

    records.tail(**options)


@main.command(short_help="Show the words of a category, as each channel would.")
@click.argument("category")
@click.option("--locale", multiple=True, metavar="TAG", help="As in fr-CA; more than once.  [en]")
@click.option("--channel", multiple=True, metavar="NAME", help="Only this one; more than once.")
@click.option("--data", multiple=True, metavar="NAME=VALUE", help="A variable of the event.")
@click.option("--event", "file", type=click.File("rb"), help="JSON lines of events, - for stdin.")
@click.option(
    "--digest", type=click.IntRange(2, 10_000), metavar="N", help="As a digest of N events."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@configured
def preview(**options: Any) -> None:
    """Show the words of CATEGORY, as each of its channels and kinds of device would.

    Uses the catalogue, the templates and the sinks' limits; asks no cluster and sends nothing.
    Several events in the file, or --digest, make a digest by the category's own rule.

    \b
    Example:
      flowstate preview message --data who=Ann --locale en --locale fr-CA
      flowstate preview like --digest 1234 --channel push
      flowstate preview message --event examples/events.jsonl --json
    """
    from streams.commands import words

    words.preview(**options)


# -------------------------------------------------------------------------------------- the books


@main.command(short_help="Say why someone did, or did not, get a notification.")
@click.argument("recipient")
@click.argument("event_id", required=False)
@click.option("--what-if", type=FILE, help="Decide again under this file's catalogue, compare.")
@click.option(
    "--last",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="With --what-if: how many events.",
)
@click.option("--ledger", metavar="URL", help="A ledger worker's address.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@configured
def explain(**options: Any) -> None:
    """Say why RECIPIENT did, or did not, get a notification.

    With EVENT_ID, that event's whole story; without, the recipient's latest. With --what-if, the
    recipient's recent events are decided again under another catalogue, nothing is sent, and what
    would have gone another way is shown, with what such a comparison cannot know.

    \b
    Example:
      flowstate explain member-0009 college-00412
      flowstate explain --what-if policy.toml member-0009
    """
    from streams.commands import books

    books.explain(**options)


@main.command(short_help="Balance the books: accepted = ended + open.")
@click.option("--received", type=FILE, multiple=True, help="A stand-in provider's received.jsonl.")
@click.option("--ledger", metavar="URL", help="Compare with a ledger worker too.")
@configured
def reconcile(**options: Any) -> None:
    """Balance the books from the topics alone: accepted = ended + open.

    Reads every event, decision, outcome and dead letter, and exits with 1 unless the remainder
    is 0.

    \b
    Example:
      flowstate reconcile --received .flowstate/up/providers/received.jsonl
    """
    from streams.commands import books

    books.reconcile(**options)


@main.command(short_help="Try dead letters again, once their cause is mended.")
@click.option("--reason", metavar="CODE", help="Only dead letters with this reason.")
@click.option("--recipient", metavar="ID", help="Only this recipient's.")
@click.option("--yes", is_flag=True, help="Do it; without, only say what would be done.")
@configured
def redrive(**options: Any) -> None:
    """Try again what ended as a dead letter, once its cause is mended.

    Deliveries keep their ids and get a new epoch, and every rule is checked again; records that
    could not be read go back to their topic. Doing it twice changes nothing more. Exit 1 when no
    dead letter has the reason; those there are, are listed.

    \b
    Example:
      flowstate redrive --reason attempts_exhausted
      flowstate redrive --reason attempts_exhausted --yes
    """
    from streams.commands import books

    books.redrive(**options)


@main.command(short_help="Erase everything about someone, and show what is left.")
@click.argument("recipient")
@click.option("--verify", is_flag=True, help="Change nothing; say what is left, and until when.")
@click.option("--lift", is_flag=True, help="They came back: treat them like anybody new.")
@click.option("--json", "as_json", is_flag=True, help="What --verify found, as JSON.")
@configured
def forget(**options: Any) -> None:
    """Erase everything about RECIPIENT: choices, addresses, what waits, and history.

    Done means that no table holds them. A keyed hash stays, so that what still comes for them is
    refused. Kafka's own logs go by compaction and age: --verify reads them and exits with 1
    while anything is left.

    \b
    Example:
      flowstate forget member-0009
      flowstate forget member-0009 --verify
    """
    from streams.commands import books

    books.forget(**options)


@main.command(short_help="Say how much of everything a load needs, with the arithmetic.")
@click.option("--events-per-day", type=POSITIVE, required=True, help="As in 1e9.")
@click.option(
    "--peak", type=click.FloatRange(1), default=3.0, show_default=True, help="Peak over average."
)
@click.option("--recipients", type=POSITIVE, help="[a tenth of the events]")
@click.option("--deliveries-per-event", type=POSITIVE, help="[as measured]")
@click.option(
    "--share",
    type=(str, click.FloatRange(0, 1)),
    multiple=True,
    metavar="KIND SHARE",
    help="Of a kind of destination among the deliveries; all together 1.",
)
@click.option(
    "--utilisation",
    type=click.FloatRange(0.05, 0.95),
    default=0.6,
    show_default=True,
    help="Of a worker or broker at peak; the rest is for what goes wrong.",
)
@click.option(
    "--growth",
    type=click.FloatRange(1),
    default=2.0,
    show_default=True,
    help="How much larger it may become: partitions cannot be added.",
)
@click.option("--replication", type=click.IntRange(1), default=3, show_default=True)
@click.option("--standbys", type=click.IntRange(0), default=1, show_default=True)
@click.option(
    "--outage-hours",
    type=POSITIVE,
    default=1.0,
    show_default=True,
    help="Whose backlog is worked off.",
)
@click.option(
    "--http-share",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Of the events, over the HTTP API.",
)
@click.option(
    "--figure",
    type=(str, POSITIVE),
    multiple=True,
    metavar="NAME VALUE",
    help="One of your own, over the shipped one.",
)
@click.option("--file", type=FILE, help="All figures of your own.")
@click.option("--figures", "show_figures", is_flag=True, help="Show what it starts from.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def capacity(**options: Any) -> None:
    """Say how much of everything a load needs: workers, partitions, brokers, disk, quotas.

    Plain arithmetic on measured figures, all of it shown. Measure your own machines with
    `make bench` and give what differs.

    \b
    Example:
      flowstate capacity --events-per-day 1e9 --peak 3
      flowstate capacity --events-per-day 1e10 --figure decide_cpu_us_per_event 40
    """
    from streams.commands import capacity as planning

    planning.capacity(**options)


# -------------------------------------------------------------------------------------- its proof


@main.command(short_help="Live whole histories in one process, crashes included, and check them.")
@click.option("--seed", type=click.IntRange(0), help="One history, with its story.")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="First seed.")
@click.option("--seeds", type=click.IntRange(1), default=1_000, show_default=True, help="How many.")
@click.option("--jobs", type=click.IntRange(1), help="Processes.  [one for each core]")
def simulate(**options: Any) -> None:
    """Live whole histories in one process, crashes included, and check each.

    The decision core, the batch protocol and the sinks are the product's; the log, the clock,
    the disks and the providers are simulated. A seed is a history: it replays exactly.

    \b
    Example:
      flowstate simulate --seeds 1000
      flowstate simulate --seed 4711      # tells its story
    """
    from streams.commands import simulate as simulation

    simulation.simulate(**options)


if __name__ == "__main__":  # `python -m streams.cli`, as the supervisor starts its children
    main(prog_name="flowstate")
