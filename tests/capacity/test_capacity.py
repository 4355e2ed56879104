"""The capacity model: its arithmetic is what it prints, and its figures say where they are from."""

from __future__ import annotations

import ast
import json
import operator
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from streams.capacity.figures import FILE, FiguresError, load, with_values
from streams.capacity.model import Demand, plan
from streams.capacity.result import power_of_two, text
from streams.cli import main

BILLION = Demand(
    events_per_day=1e9,
    recipients=1e8,
    deliveries_per_event=0.5,
    shares={"apns": 0.4, "fcm": 0.32, "email": 0.24, "sms": 0.04},
)
OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["capacity", *arguments])


def evaluated(arithmetic: str) -> float | None:
    """The value of a line's arithmetic, its units taken out; ``None`` when it is a sentence."""
    bare = arithmetic.replace(",", "").replace(" x ", " * ")
    bare = re.sub(r"(?<=\d)/s", "", bare)
    bare = re.sub(r"\)\s*MB/s|\)/s", ")", bare)
    bare = re.sub(r"(µs|MB|GB|TB|\bB\b|\bs\b|\bd\b|copies|records|workers|decide|deliver|ledger"
                  r"|of changelog|million deliveries)", "", bare)  # fmt: skip
    try:
        return _value(ast.parse(bare.strip(), mode="eval").body)
    except SyntaxError:
        return None


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.BinOp):
        return float(OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, (int, float))
    return float(node.value)


@pytest.mark.parametrize("events_per_day", [1e7, 1e9, 1e10])
def test_each_line_is_what_its_arithmetic_says(events_per_day: float) -> None:
    demand = replace(BILLION, events_per_day=events_per_day, recipients=events_per_day / 10)
    checked = 0
    for section in plan(demand, load()).sections:
        for line in section.lines:
            said = evaluated(line.arithmetic)
            if said is None:
                continue
            checked += 1
            rounded_up = line.value == int(line.value) and 0 <= line.value - said < 1.02
            assert rounded_up or line.value == pytest.approx(said, rel=0.02), line
    assert checked >= 20


def test_more_load_never_needs_less() -> None:
    figures = load()
    smaller = plan(BILLION, figures)
    larger = plan(replace(BILLION, events_per_day=3e9, recipients=3e8), figures)
    for name in ("decide workers", "deliver (apns) workers", "partitions of every topic",
                 "brokers", "disk of the brokers", "local state, all workers"):  # fmt: skip
        assert larger.value(name) >= smaller.value(name) > 0, name


def test_a_worker_twice_as_fast_halves_them() -> None:
    figures = load()
    slow = figures["decide_cpu_us_per_event"].value
    fast = with_values(figures, {"decide_cpu_us_per_event": slow / 2})
    before, after = (plan(BILLION, each).value("decide workers") for each in (figures, fast))
    assert after == pytest.approx(before / 2, abs=1)


def test_more_partitions_than_ids_can_say_is_said() -> None:
    huge = replace(BILLION, events_per_day=1e13)
    lines = [line for section in plan(huge, load()).sections for line in section.lines]
    (partitions,) = [line for line in lines if line.name == "partitions of every topic"]
    assert "cells" in partitions.note


def test_every_figure_says_where_it_is_from() -> None:
    figures = load()
    assert {figure.origin for figure in figures.values()} == {"measured", "published", "chosen"}
    for name, figure in figures.items():
        if figure.origin == "measured":
            assert figure.command.startswith("python -m benchmarks "), name
            assert re.match(r"20\d\d-\d\d-\d\d", figure.on), name
        assert figure.value > 0, name


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[a]\nvalue = 1\nunit = 's'\nwhat = 'w'\n", "must have one of"),
        ("[a]\nvalue = 1\nunit = 's'\nwhat = 'w'\nchosen = 'c'\npage = 'p'\n", "must have one of"),
        ("[a]\nvalue = 'one'\nunit = 's'\nwhat = 'w'\nchosen = 'c'\n", "float"),
        ("a = [", "figures.toml"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, written: str, said: str) -> None:
    file = tmp_path / "figures.toml"
    file.write_text(written)
    with pytest.raises(FiguresError, match=re.escape(said)):
        load(file)


@pytest.mark.parametrize(("value", "power"), [(1, 1), (16, 16), (17, 32), (0.2, 1), (1000, 1024)])
def test_powers_of_two(value: float, power: int) -> None:
    assert power_of_two(value) == power


def test_numbers_for_people() -> None:
    assert [text(value) for value in (11_574.07, 3, 0.12345)] == ["11,574", "3", "0.123"]


def test_the_command_shows_its_arithmetic() -> None:
    result = run("--events-per-day", "1e9", "--peak", "3", "--figures")
    assert result.exit_code == 0, result.output
    assert "= 1,000,000,000 / 86,400 s" in result.output
    assert "[measured]" in result.output
    assert "python -m benchmarks decide" in result.output


def test_the_command_as_json() -> None:
    told = json.loads(run("--events-per-day", "1e9", "--json").output)
    assert told["demand"]["events_per_day"] == 1e9
    assert {section["title"] for section in told["plan"]["sections"]} >= {"Workers", "Partitions"}
    assert set(told["figures"]) == set(load(FILE))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--share", "apns", "0.5"], "add up to 0.5"),
        (["--share", "pigeon", "1"], "no kind of destination pigeon"),
        (["--figure", "nonsense", "1"], "no figure 'nonsense'"),
        (["--file", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_mistakes_are_told(arguments: list[str], said: str) -> None:
    result = run("--events-per-day", "1e9", *arguments)
    assert result.exit_code == 1
    assert said in result.output


def test_shares_of_ones_own() -> None:
    result = run("--events-per-day", "1e9", "--share", "webpush", "1", "--json")
    told = json.loads(result.output)
    names = [line["name"] for line in told["plan"]["sections"][1]["lines"]]
    assert "deliver (webpush) workers" in names
    assert "deliver (apns) workers" not in names


PAGE = (FILE.parents[2] / "docs" / "capacity.md").read_text(encoding="utf-8")


def test_the_page_shows_what_the_command_says() -> None:
    """Figures that were measured anew must reach the page: run the command and paste."""
    (block,) = re.findall(r"```text\n\$ flowstate (.*?)\n(.*?)\n```", PAGE, re.DOTALL)
    command, shown = block
    said = CliRunner().invoke(main, command.split()).output.strip("\n")
    assert shown == said


def test_the_page_compares_a_billion_with_ten() -> None:
    figures = load()
    share = figures["deliveries_per_event"].value
    billions = [
        plan(
            replace(BILLION, events_per_day=size, recipients=size / 10, deliveries_per_event=share),
            figures,
        )
        for size in (1e9, 1e10)
    ]
    rows = re.findall(r"^\| (\S.*?) \| ([\d.,e+]+) \| ([\d.,e+]+) \| .* \|$", PAGE, re.MULTILINE)
    assert len(rows) > 15
    for name, *shown in rows:
        assert [text(each.value(name)) for each in billions] == shown, name
