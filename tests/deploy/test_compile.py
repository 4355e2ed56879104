"""The rules can be compiled, and decide the same when they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECIDES = """
from streams.core import decide, policy, state_codec
from streams.core.model import Destination, Event, EventInput, Profile, RecipientState, Source
told = Profile(destinations=(Destination("d", "apns", "token", 1),))
rules = policy.Policy("v", {"like": policy.Category("like", channels=("push",))})
event = EventInput(Event("e", "ana", "like", 5), Source("events.normal", 0, 7, 9))
made = decide.decide(RecipientState("ana", 0, told), event, 10, rules)
kept = state_codec.encode_moving(made.state.activity, made.state.waiting)
print(decide.__file__.rpartition(".")[2], kept.hex(), made.deliveries, made.entries)
"""


def decided(folder: Path) -> tuple[str, str]:
    """(what kind of file decided, what it decided)."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", DECIDES], capture_output=True, text=True, check=True,
        env=environment, cwd=folder,
    )  # fmt: skip
    kind, _, rest = done.stdout.partition(" ")
    return kind, rest


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_compiled_rules_decide_the_same(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "streams", tmp_path / "streams")
    mypyc = Path(sys.executable).with_name("mypyc")
    subprocess.run([ROOT / "deploy" / "compile.sh", tmp_path, mypyc], check=True)
    kind, compiled = decided(tmp_path)
    assert kind == "so"
    assert decided(ROOT) == ("py", compiled)
    assert "delivering" in compiled
