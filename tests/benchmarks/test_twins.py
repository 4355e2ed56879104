"""The twins: what is compared with must be seen to fail when it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FAILING = """
import asyncio, sys
from benchmarks.twins.faust_app import make_app
app = make_app("twin", "localhost:1", 1, sys.argv[1])
asyncio.run(app._on_agent_error(None, ValueError("at this record")))
"""


def test_a_twin_whose_agent_fails_ends_and_says_why(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FAILING, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "ValueError: at this record" in ended.stderr
