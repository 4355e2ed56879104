"""``topology.md`` is what the code says, and what the roles really do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams import tables, topics, topology
from streams.agents.decide import DecideLogic
from streams.agents.decide_role import decide_role
from streams.agents.deliver import deliver_role
from streams.agents.deliver_terms import Names
from streams.agents.ledger import ledger_role
from streams.codec import Codec
from streams.engine.roles import RoleSpec
from streams.engine.settings import EngineSettings
from streams.ledger.settings import LedgerSettings
from streams.privacy import PrivacySettings
from streams.settings import load
from streams.sinks.settings import DeliverSettings

ENGINE = EngineSettings(bootstrap="127.0.0.1:1")
PAGE = Path(topology.__file__).resolve().parents[1] / "topology.md"


def role_specs() -> dict[str, RoleSpec]:
    """Every role as the engine gets it."""
    codec = Codec()
    logic = DecideLogic(codec, load(environment={}).policy, ENGINE.partitions)
    specs = (
        decide_role(ENGINE, logic),
        deliver_role(DeliverSettings(), codec),
        ledger_role(LedgerSettings(), ENGINE, codec, PrivacySettings()),
    )
    return {spec.name: spec for spec in specs}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == topology.render(), (
        "run: flowstate topology --write topology.md"
    )


@pytest.mark.parametrize("name", ["decide", "deliver", "ledger"])
def test_each_role_reads_what_the_page_says(name: str) -> None:
    spec = role_specs()[name]
    declared = next(role for role in topology.ROLES if role.name == name)
    read = {*spec.topics, *(follow.topic for follow in spec.follows)}
    if spec.table is not None:
        read.add(spec.table.changelog)
    if name == "ledger":
        read.add(topics.LEDGER_HOURS)  # by an empty disk, once, and not through the engine
    assert set(declared.reads) == read


def test_deliver_writes_what_the_page_says() -> None:
    names = Names()
    touched = {getattr(names, field) for field in Names.__struct_fields__ if field != "deliveries"}
    declared = next(role for role in topology.ROLES if role.name == "deliver")
    assert set(declared.writes) == touched - {names.kill_switch}


def test_the_order_of_taking_is_the_roles() -> None:
    lanes = role_specs()["decide"].lanes
    assert [(lane.name, lane.topics) for lane in lanes] == [
        (name, names) for name, _, names in topology.LANES
    ]


def test_every_topic_is_written_and_read_by_somebody() -> None:
    written = {name for role in topology.EVERYBODY for name in role.writes}
    read = {name for role in topology.EVERYBODY for name in role.reads}
    assert written == read == set(topics.BY_NAME)


def test_every_topic_and_table_is_on_the_page() -> None:
    page = topology.render()
    for spec in topics.SPECS:
        if spec.name not in topics.DELIVERIES:
            assert f"| `{spec.name}`" in page
    assert all(f"`{table.name}` of the role" in page for table in tables.TABLES)
    for schema in re.findall(r"\]\((schemas/\w+\.avsc)\)", page):
        assert (PAGE.parent / schema).is_file()


def test_the_page_drifts_when_a_topic_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = tuple(spec for spec in topics.SPECS if spec.name != topics.TICKS)
    monkeypatch.setattr(topics, "SPECS", fewer)
    assert topology.render() != PAGE.read_text(encoding="utf-8")
