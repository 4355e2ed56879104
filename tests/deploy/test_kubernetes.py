"""The manifests: valid YAML, commands that exist, settings that are taken, no secret in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from streams.cli import main
from streams.settings import load

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
WORKLOADS = {"Deployment", "StatefulSet", "Job"}


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in FILES:
        for document in yaml.safe_load_all(path.read_text()):
            yield path.name, document


def pods() -> list[Any]:
    return [
        pytest.param(document["spec"]["template"], id=name)
        for name, document in documents()
        if document["kind"] in WORKLOADS
    ]


def configuration() -> str:
    (text,) = (d["data"]["flowstate.toml"] for _, d in documents() if d["kind"] == "ConfigMap")
    return str(text)


def test_every_role_has_a_workload() -> None:
    names = {d["metadata"]["name"] for _, d in documents() if d["kind"] in WORKLOADS}
    assert names == {
        "flowstate-api", "flowstate-decide", "flowstate-deliver", "flowstate-ledger",
        "flowstate-topics",
    }  # fmt: skip


@pytest.mark.parametrize("pod", pods())
def test_containers_run_commands_that_there_are(pod: dict[str, Any]) -> None:
    for container in pod["spec"]["containers"]:
        program, *arguments = container["args"]
        assert program == "flowstate"
        result = CliRunner().invoke(main, [*arguments, "--help"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("pod", pods())
def test_volumes_that_are_mounted_are_declared(pod: dict[str, Any]) -> None:
    declared = {volume["name"] for volume in pod["spec"].get("volumes", [])} | {"data"}
    for container in pod["spec"]["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= declared


def test_the_configuration_is_right_with_the_pods_environment(tmp_path: Path) -> None:
    path = tmp_path / "flowstate.toml"
    path.write_text(configuration())
    for pod in pods():
        (container,) = pod.values[0]["spec"]["containers"]
        environment = {
            one["name"]: one.get("value", "10.0.0.1") for one in container.get("env", [])
        }
        settings = load(path, {}, environment)
        assert settings.kafka.replication == 3
        if "FLOWSTATE_DATA_FOLDER" in environment:
            assert settings.data_folder == "/var/lib/flowstate"
            assert settings.engine.web_host == "0.0.0.0"


def test_a_pod_is_given_longer_to_stop_than_a_worker_takes(tmp_path: Path) -> None:
    path = tmp_path / "flowstate.toml"
    path.write_text(configuration())
    stop_s = load(path, {}, {}).engine.shutdown_ms_max / 1_000
    for pod in pods():
        spec = pod.values[0]["spec"]
        if spec["containers"][0]["args"][1] == "worker":
            assert spec["terminationGracePeriodSeconds"] > stop_s


@pytest.mark.parametrize("role", ["api", "decide", "deliver", "ledger"])
def test_only_pods_that_come_back_under_their_names_keep_their_membership(role: str) -> None:
    (workload,) = (
        d for _, d in documents()
        if d["kind"] in WORKLOADS and d["metadata"]["name"] == f"flowstate-{role}"
    )  # fmt: skip
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    named = "FLOWSTATE_ENGINE__WORKER_NAME" in {one["name"] for one in container["env"]}
    assert named == (workload["kind"] == "StatefulSet")
    (secrets,) = container["envFrom"]
    assert secrets == {"secretRef": {"name": "flowstate-secrets"}}, "workers could not ask another"
