"""The rules can be compiled, and decide the same when they are.

So do the caches in ``deploy/inline_caches.h``, of which ``probe_checks.py`` asks what is rare.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CHECKS = re.findall(r"(?<=\ndef )\w+(?=\(\))", (HERE / "probe_checks.py").read_text())
DECIDES = """
from streams.codec import Codec
from streams.core import decide, policy, state_codec
from streams.core.model import Destination, Event, EventInput, Profile, RecipientState, Source
told = Profile(destinations=(Destination("d", "apns", "token", 1),))
rules = policy.Policy("v", {"like": policy.Category("like", channels=("push",))})
event = EventInput(Event("e", "ana", "like", 5), Source("events.normal", 0, 7, 9))
made = decide.decide(RecipientState("ana", 0, told), event, 10, rules)
kept = state_codec.encode_moving(made.state.activity, made.state.waiting)
codec = Codec()
sent = [codec.encode_delivery(delivery).hex() for delivery in made.deliveries]
told = codec.encode_decision("ana", 10, "v", made.entries).hex()
print(decide.__file__.rpartition(".")[2], type(codec.encode_delivery.__self__._delivery).__name__)
print(kept.hex(), made.deliveries, made.entries, sent, told)
"""


def decided(folder: Path) -> tuple[str, str]:
    """(what kind of file decided and what wrote its records, what it decided)."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", DECIDES], capture_output=True, text=True, check=True,
        env=environment, cwd=folder,
    )  # fmt: skip
    kind, _, rest = done.stdout.partition("\n")
    return kind, rest


needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")


def compile_rules(folder: Path) -> None:
    mypyc = Path(sys.executable).with_name("mypyc")
    subprocess.run([ROOT / "deploy" / "compile.sh", folder, mypyc], check=True)


def test_no_compiled_module_makes_a_struct() -> None:
    """Compiled, a struct would lose its options and the types of its fields, without a word."""
    script = (ROOT / "deploy" / "compile.sh").read_text()
    delivering = re.search(r'delivering="([^"]+)"', script)
    assert delivering is not None
    kept = re.findall(r"! -name (\w+\.py)", script)
    rules = [path for path in (ROOT / "streams/core").glob("*.py") if path.name not in kept]
    others = [ROOT / f"streams/{name}.py" for name in delivering[1].split()]
    compiled = [*rules, *others, ROOT / "streams/agents/recipient_work.py"]
    assert len(compiled) > 40
    for path in compiled:
        assert not re.search(r"^class .*\bStruct\b", path.read_text(), re.MULTILINE), path.name


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_compiler
def test_compiled_rules_decide_the_same(tmp_path: Path) -> None:
    for folder in ("streams", "schemas"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    compile_rules(tmp_path)
    kind, compiled = decided(tmp_path)
    assert kind == "so Writer"
    assert decided(ROOT) == ("py function", compiled)
    assert "delivering" in compiled


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders with ``streams.core.probe``: as it is, and compiled as the rules are."""
    plain, compiled = (tmp_path_factory.mktemp(name) / "of space" for name in ("plain", "compiled"))
    for folder in (plain, compiled):
        for package in ("streams", "streams/core", "streams/agents"):
            (folder / package).mkdir(parents=True, exist_ok=True)
            (folder / package / "__init__.py").touch()
        (folder / "streams/agents/recipient_work.py").touch()
        shutil.copytree(ROOT / "streams/wire", folder / "streams/wire")
        shutil.copy(HERE / "probe.py", folder / "streams/core/probe.py")
    compile_rules(compiled)
    return plain, compiled


def answers(folder: Path, check: str) -> str:
    done = subprocess.run(
        [sys.executable, HERE / "probe_checks.py", check], capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONPATH": str(folder)}, cwd=folder,
    )  # fmt: skip
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_compiler
@pytest.mark.parametrize("check", CHECKS)
def test_inline_caches_answer_as_python_does(probes: tuple[Path, Path], check: str) -> None:
    plain, compiled = probes
    (shared,) = compiled.glob("*__mypyc*.so")
    for cache in (b"find_attribute", b"is_of_class", b"find_item"):
        assert cache in shared.read_bytes()
    expected = answers(plain, check)
    assert expected
    assert answers(compiled, check) == expected
