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
COMPILED_TESTS = [f"tests/sinks/test_{name}.py" for name in ("http2_client", "dispatch", "breaker")]
"""What a compiler takes at its word, an annotation that is wrong, is found by running it."""
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


def compile_rules(folder: Path, level: int = 3) -> None:
    mypyc = Path(sys.executable).with_name("mypyc")
    environment = {**os.environ, "MYPYC_OPT_LEVEL": str(level)}
    subprocess.run([ROOT / "deploy" / "compile.sh", folder, mypyc], check=True, env=environment)


def compiled_beside_rules() -> list[str]:
    """Modules that compile.sh names, as paths without their ending below streams/."""
    named = re.search(r'delivering="([^"]+)"', (ROOT / "deploy" / "compile.sh").read_text())
    assert named is not None
    return named[1].split()


def test_no_compiled_module_makes_a_struct() -> None:
    """Compiled, a struct would lose its options and the types of its fields, without a word."""
    kept = re.findall(r"! -name (\w+\.py)", (ROOT / "deploy" / "compile.sh").read_text())
    rules = [path for path in (ROOT / "streams/core").glob("*.py") if path.name not in kept]
    others = [ROOT / f"streams/{name}.py" for name in compiled_beside_rules()]
    compiled = [*rules, *others, ROOT / "streams/agents/recipient_work.py"]
    assert len(compiled) > 40
    for path in compiled:
        assert not re.search(r"^class .*\bStruct\b", path.read_text(), re.MULTILINE), path.name


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@needs_compiler
def test_what_is_compiled_decides_and_sends_the_same(tmp_path: Path) -> None:
    for folder in ("streams", "schemas", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    compile_rules(tmp_path, level=0)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    kind, compiled = decided(tmp_path)
    assert kind == "so Writer"
    assert decided(ROOT) == ("py function", compiled)
    assert "delivering" in compiled
    for name in compiled_beside_rules():
        assert list(tmp_path.glob(f"streams/{name}.*.so")), name
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *COMPILED_TESTS],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4_000:]


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders with ``streams.core.probe``: as it is, and compiled as the rules are."""
    plain, compiled = (tmp_path_factory.mktemp(name) / "of space" for name in ("plain", "compiled"))
    for folder in (plain, compiled):
        for package in ("streams", "streams/core"):
            (folder / package).mkdir(parents=True, exist_ok=True)
            (folder / package / "__init__.py").touch()
        for name in ("agents/recipient_work", *compiled_beside_rules()):
            module = folder / f"streams/{name}.py"
            module.parent.mkdir(exist_ok=True)
            module.touch()
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
@pytest.mark.timeout(1_200)
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
