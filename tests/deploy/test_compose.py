"""docker-compose.yml and what it mounts, held against the code that they describe.

No container is started here: that needs Docker. What is checked is what drifts: commands, roles,
files, metric names, and the three settings that keep an acknowledged record.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from streams import cli

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BROKERS = ("kafka-1", "kafka-2", "kafka-3")
OURS = {name: service for name, service in SERVICES.items() if "command" in service}
UNNEEDED = shutil.ignore_patterns("__pycache__", "*.so")
METRIC_SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


@pytest.mark.parametrize("name", BROKERS)
def test_an_acknowledged_record_is_on_two_brokers_of_three(name: str) -> None:
    settings = SERVICES[name]["environment"]
    assert settings["KAFKA_DEFAULT_REPLICATION_FACTOR"] == 3
    assert settings["KAFKA_MIN_INSYNC_REPLICAS"] == 2
    assert settings["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
    assert settings["KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR"] == 3
    assert settings["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == 2
    assert settings["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"] == 3


def test_the_brokers_are_three_of_one_quorum_and_differ() -> None:
    brokers = {name: service for name, service in SERVICES.items() if name.startswith("kafka")}
    assert tuple(brokers) == BROKERS
    settings = [service["environment"] for service in brokers.values()]
    voters = settings[0]["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")
    assert voters == [f"{node}@kafka-{node}:9093" for node in (1, 2, 3)]
    assert [each["KAFKA_NODE_ID"] for each in settings] == [1, 2, 3]
    assert len({each["CLUSTER_ID"] for each in settings}) == 1
    assert len({each["KAFKA_ADVERTISED_LISTENERS"] for each in settings}) == 3


def test_every_role_of_the_command_has_a_service() -> None:
    workers = [service["command"][2] for service in OURS.values() if "worker" in service["command"]]
    assert sorted(workers) == sorted({*cli.ROLES, "api"})


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_one_that_flowstate_knows(name: str) -> None:
    program, *arguments = OURS[name]["command"]
    assert program == "flowstate"
    result = CliRunner().invoke(cli.main, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert f"{option} " in result.output


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_files_that_are_mounted_from_deploy_are_there() -> None:
    mounts = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./deploy/")
    ]
    assert len(mounts) == 4
    assert all((ROOT / mount).exists() for mount in mounts)


RECIPE = (ROOT / "deploy" / "Dockerfile").read_text()
COPIES = re.findall(r"^COPY (?!--from)(.+) (\S+)$", RECIPE, flags=re.MULTILINE)


def test_the_image_takes_in_what_its_recipe_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [name for names, _ in COPIES for name in names.split()]
    assert copied
    assert all((ROOT / name).exists() and f"!{name}" in ignored for name in copied)


def test_a_wheel_can_be_built_from_what_the_recipe_copies(tmp_path: Path) -> None:
    """As the image does; of what is compiled nothing is needed for it."""
    build = tmp_path / "build"
    for names, target in COPIES:
        for name in names.split():
            if target == name:
                shutil.copytree(ROOT / name, build / name, ignore=UNNEEDED)
            else:
                (build / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, build / target)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (build / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as made:
        names = set(made.namelist())
    assert {
        "streams/flowstate.toml", "streams/schemas/event.avsc",
        "streams/examples/college_messages.csv.gz",
    } <= names  # fmt: skip


EXPORTED = {
    name
    for path in (ROOT / "streams").rglob("*.py")
    for name in re.findall(r'"(flowstate_\w+)"', path.read_text())
}
METRIC = re.compile(r"flowstate_\w+")


def known(expressions: list[str]) -> bool:
    """Whether each metric in them is one that a worker exports."""
    names = {name for text in expressions for name in METRIC.findall(text)}
    return bool(names) and {METRIC_SUFFIX.sub("", name) for name in names} <= EXPORTED


def test_each_metric_of_the_dashboard_is_one_that_a_worker_exports() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/flowstate.json").read_text())
    assert known([target["expr"] for panel in dashboard["panels"] for target in panel["targets"]])


ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


def test_prometheus_is_given_the_alerts() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (file,) = prometheus["rule_files"]
    (mount,) = (
        v for v in SERVICES["prometheus"]["volumes"] if v.startswith("./deploy") and file in v
    )
    assert mount.split(":")[1] == f"/etc/prometheus/{file}"


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_there_are_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert known([rule["expr"]]) or 'up{job="flowstate"' in rule["expr"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    page, anchor = rule["annotations"]["runbook"].split("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
