"""The command line: it teaches, answers fast, and fails in sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from streams import topics
from streams.cli import main
from streams.local.broker import EmbeddedBroker

HEAVY = ("aiokafka", "faust", "fastavro", "confluent_kafka", "rich", "aiohttp", "rocksdict")
ANN = {"event_id": "e1", "recipient_id": "ann", "category": "message"}


def run(*arguments: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=text)


def commands(group: click.Group = main, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name)


EVERY = list(commands())
OWN_HELP = [path for path in EVERY if path != ("keys",)]
"""`keys` is a group of its own, with a test of its own."""
NO_CLUSTER = {("simulate",), ("capacity",)}
"""Needs no cluster, and so takes neither --config nor --bootstrap."""


def test_every_command_of_the_product_is_there() -> None:
    assert {" ".join(path) for path in EVERY} >= {
        "up", "demo", "broker", "worker", "providers", "registry", "topics create",
        "topics check", "publish", "tail", "preview", "explain", "reconcile", "redrive",
        "forget", "topology",
        "config check", "config reference", "keys",
    }  # fmt: skip


@pytest.mark.parametrize("path", OWN_HELP, ids=" ".join)
def test_help_teaches_with_an_example(path: tuple[str, ...]) -> None:
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"flowstate {' '.join(path)}" in result.output
    if path not in NO_CLUSTER:
        assert "--config" in result.output
        assert "--bootstrap" in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["publish", "--help"], ["demo", "--help"]])
def test_help_needs_nothing_heavy(arguments: list[str]) -> None:
    """Import of any of these costs more than all of the help does."""
    code = (
        "import sys, streams.cli\n"
        f"try: streams.cli.main({arguments!r})\n"
        "except SystemExit: pass\n"
        f"print(*(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "Usage:" in done.stdout
    assert done.stderr.split() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "cook"], ["publish", "events.normal"], ["demo", "--kill", "kafka"],
        ["demo", "--bootstrap", "127.0.0.1:1"], ["providers", "--ports", "1,2"], ["no-such"],
    ],
)  # fmt: skip
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "check"], ["topics", "create"], ["tail", "decisions"], ["reconcile"],
        ["redrive"], ["publish", "events.normal", "-"],
    ],
)  # fmt: skip
def test_no_kafka_is_one_sentence_and_what_to_do(arguments: list[str]) -> None:
    result = run(*arguments, "--bootstrap", "127.0.0.1:1", text=json.dumps(ANN))
    assert result.exit_code == 1
    assert "cannot reach Kafka at 127.0.0.1:1" in result.output
    assert "flowstate up" in result.output
    assert "Traceback" not in result.output


def test_no_ledger_is_one_sentence_and_what_to_do() -> None:
    result = run("explain", "ann", "--ledger", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "flowstate: the ledger at http://127.0.0.1:1 cannot be asked" in result.output
    assert "Traceback" not in result.output


def test_the_shipped_configuration_is_right() -> None:
    result = run("config", "check")
    assert result.exit_code == 0, result.output
    assert "is right" in result.output
    assert "warning: no provider is configured for push" in result.output


def test_every_mistake_of_a_configuration_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('clock = "moon"\n[kafka]\npartitons = 3\n')
    result = run("config", "check", "--config", path)
    assert result.exit_code == 1
    assert "clock" in result.output
    assert "partitons" in result.output
    assert "Traceback" not in result.output


def test_a_configuration_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    result = run("config", "check", "--config", tmp_path / "none.toml")
    assert result.exit_code == 1
    assert "none.toml" in result.output


def test_keys_are_handed_on_with_their_help_and_their_mistakes(tmp_path: Path) -> None:
    file = ("--file", tmp_path / "keys.json")
    assert "Usage: flowstate keys [OPTIONS] COMMAND" in run("keys", "--help").output
    assert "Usage: flowstate keys [OPTIONS] COMMAND" in run("keys", "-h").output
    assert "flowstate keys create billing" in run("keys", "create", "--help").output
    assert "flowstate keys create billing" in run("keys", "create", "-h").output
    assert run("keys", "create", "orders", *file).exit_code == 2
    made = run("keys", "create", "orders", "--scope", "produce", *file)
    assert made.exit_code == 0, made.output
    assert "orders" in run("keys", "list", *file).output
    unknown = run("keys", "revoke", "nope", *file)
    assert unknown.exit_code == 1
    assert "there is no key nope" in unknown.output


def test_publish_checks_lines_by_number_and_sends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f"{json.dumps(ANN)}\n{json.dumps({**ANN, 'categry': 'x'})}\n")
    result = run("publish", "events.normal", path, "--check")
    assert result.exit_code == 1
    assert "line 2: unknown field 'categry'; did you mean 'category'?" in result.output
    assert "1 records right" in result.output


@pytest.mark.parametrize(
    ("topic", "record", "says"),
    [
        ("events.normal", {**ANN, "category": "nope"}, "The catalogue has no category nope"),
        ("kill-switch", {"scope": "categry:message", "active": True}, "did you mean"),
    ],
)
def test_publish_asks_what_the_record_will_meet_later(
    topic: str, record: dict[str, object], says: str
) -> None:
    result = run("publish", topic, "-", "--check", text=json.dumps(record))
    assert result.exit_code == 1
    assert "line 1: " in result.output
    assert says in result.output


def test_an_unknown_topic_is_named_with_those_there_are() -> None:
    result = run("publish", "events.urgent", "-", text="{}")
    assert result.exit_code == 1
    assert "events.critical" in result.output


def test_topology_is_printed_and_written(tmp_path: Path) -> None:
    printed = run("topology")
    assert printed.exit_code == 0
    run("topology", "--write", tmp_path / "topology.md")
    assert (tmp_path / "topology.md").read_text() == printed.output


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of these tests' own: they make the real topics."""
    broker = EmbeddedBroker(tmp_path_factory.mktemp("cli") / "kafka", port=0)
    broker.start()
    yield broker.bootstrap
    broker.stop()


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.xdist_group("cli-broker")
def test_topics_records_and_books_on_a_real_cluster(own_broker: str, tmp_path: Path) -> None:
    there = ("--bootstrap", own_broker)
    missing = run("topics", "check", *there)
    assert missing.exit_code == 1
    assert "topic events.normal does not exist" in missing.output
    made = run("topics", "create", *there)
    assert made.exit_code == 0, made.output
    assert f"{len(topics.SPECS)} topics created" in made.output
    assert "0 topics created" in run("topics", "create", *there).output

    lines = "\n".join(json.dumps({**ANN, "event_id": f"e{n}"}) for n in range(300))
    published = run("publish", "events.normal", "-", *there, text=f"{lines}\nnonsense\n")
    assert "300 records acknowledged" in published.output
    assert "line 301: not JSON" in published.output
    assert published.exit_code == 1

    shown = run("tail", "events.normal", "--from-beginning", "--no-follow", *there)
    records = [json.loads(line) for line in shown.output.splitlines()]
    assert [record["value"]["event_id"] for record in records] == [f"e{n}" for n in range(300)]
    assert len({record["partition"] for record in records}) == 1
    last = run("tail", "events.normal", "--last", "2", "--no-follow", *there)
    assert [json.loads(line)["offset"] for line in last.output.splitlines()] == [298, 299]
    nobody = run("tail", "events.normal", "--last", "9", "--no-follow", "--recipient", "x", *there)
    assert nobody.output == ""

    assert "nothing to try again" in run("redrive", *there).output
    mistyped = run("redrive", "--reason", "unknown_shema", *there)
    assert mistyped.exit_code == 1
    assert 'did you mean "unknown_schema"?' in mistyped.output
    books = run("reconcile", *there)
    assert "300" in books.output
