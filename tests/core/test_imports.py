"""The core imports the standard library, msgspec and itself: what it may not touch, it cannot."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import streams.core

FOLDER = Path(streams.core.__file__).parent
MODULES = sorted(FOLDER.glob("*.py"))
INSTEAD = {
    "time": "take `now_ms` as an argument",
    "random": "derive it from a key, as `ids.jitter` does",
    "secrets": "derive it from a key, as `ids.jitter` does",
    "uuid": "derive it from a key, as `ids.digest16` does",
    "logging": "return an entry: the shell tells",
    "os": "take a setting in `Policy`",
    "asyncio": "return an effect: the shell does it",
    "threading": "return an effect: the shell does it",
    "socket": "return an effect: the shell does it",
    "subprocess": "return an effect: the shell does it",
    "pathlib": "take the content as an argument",
    "io": "take the content as an argument",
}
"""Standard modules that the core may not use, with what to do instead."""
CLOCKS = {"now", "today", "utcnow"}


def imported(path: Path) -> set[str]:
    """Every module that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def complaints(path: Path) -> list[str]:
    """What a module imports that it may not, and what to do instead."""
    found = []
    for name in sorted(imported(path)):
        top = name.partition(".")[0]
        if top in INSTEAD:
            found.append(f"{path.name} imports {name}: {INSTEAD[top]}")
        elif name.startswith("streams.") and not name.startswith("streams.core"):
            found.append(f"{path.name} imports {name}: imports point inward; pass it in")
        elif top not in ("streams", "msgspec") and top not in sys.stdlib_module_names:
            found.append(f"{path.name} imports {name}: the core has no dependencies")
    return found


def test_the_core_imports_only_the_standard_library_msgspec_and_itself() -> None:
    assert len(MODULES) > 20
    assert [complaint for path in MODULES for complaint in complaints(path)] == []


def test_the_core_reads_no_clock() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in CLOCKS, f"{path.name}: take `now_ms` as an argument"


def test_the_check_finds_what_it_looks_for(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import time\nimport faust\nfrom streams.engine import store\n")
    assert complaints(bad) == [
        "bad.py imports faust: the core has no dependencies",
        "bad.py imports streams.engine: imports point inward; pass it in",
        "bad.py imports time: take `now_ms` as an argument",
    ]
