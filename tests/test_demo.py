"""The demo itself, as a person runs it: a short one in which a role is killed.

The whole trace takes minutes and is run by hand (``make demo``) and by ``make faults``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

RUN_S_MAX = 280


def demo(folder: Path, *options: str) -> str:
    """Output of a demo that must pass, and leave nobody behind."""
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "demo", "--data", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    left = [p.info for p in psutil.process_iter(["cmdline"]) if str(folder) in str(p.info)]
    assert left == []
    return done.stdout


def fingerprint(output: str) -> str:
    found = re.search(r"totals fingerprint ([0-9a-f]{16})", output)
    assert found, output
    return found[1]


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(RUN_S_MAX + 20)
@pytest.mark.xdist_group("demo")
def test_a_demo_with_a_kill_adds_up_and_tells_a_story(tmp_path: Path) -> None:
    output = demo(tmp_path / "demo", "--events", "1500", "--kill", "decide")
    assert "decide was sent SIGKILL" in output
    assert re.search(r"accepted +1,503", output)
    assert re.search(r"remainder +0", output)
    assert "It adds up." in output
    assert "The demo passed" in output
    assert "$ flowstate explain member-" in output


@pytest.mark.faults
@pytest.mark.broker
@pytest.mark.timeout(4 * RUN_S_MAX)
def test_killing_any_role_leaves_the_totals_as_they_are(tmp_path: Path) -> None:
    seen = {"nobody": fingerprint(demo(tmp_path / "nobody", "--events", "6000"))}
    for role in ("decide", "deliver", "ledger"):
        output = demo(tmp_path / role, "--events", "6000", "--kill", role)
        assert f"{role} was sent SIGKILL" in output
        seen[role] = fingerprint(output)
    assert len(set(seen.values())) == 1, seen
