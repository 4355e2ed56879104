"""The codec compiled from ``native/`` does what the generated Python does."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from streams.wire.plan import Op
from streams.wire.primitives import MalformedError

ROOT = Path(__file__).parents[2]
SAME_TESTS = ("tests/wire/test_reader.py", "tests/wire/test_writer.py", "tests/test_codec.py")

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the extension in it."""
    made = tmp_path_factory.mktemp("native")
    ignored = shutil.ignore_patterns("_native.*.so", "__pycache__")
    shutil.copytree(ROOT / "streams", made / "streams", ignore=ignored)
    shutil.copytree(ROOT / "schemas", made / "schemas")
    shutil.copy(ROOT / "flowstate.toml", made)
    script = ROOT / "deploy" / "compile_native.sh"
    subprocess.run([script, made, sys.executable], check=True)
    return made


@pytest.fixture
def native(folder: Path) -> ModuleType:
    name = f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    found = importlib.util.spec_from_file_location("_native", folder / "streams" / "wire" / name)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tests_of_the_codec_hold_for_it(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    asks = "from streams.wire.plan import native; print(native.__file__)"
    asked = subprocess.run(
        [sys.executable, "-c", asks], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert asked.stdout.startswith(str(folder)), asked.stderr
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *SAME_TESTS],
        env=environment, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.parametrize(
    "plan",
    [
        (),
        ("text",),
        (Op.UNION,),
        (Op.UNION, ((Op.LONG,), 7)),
        (Op.ARRAY,),
        (Op.ARRAY, (Op.LONG,)),
        (Op.MAP, 5, True),
        (Op.ENUM, ("A",)),
        (Op.FIXED, "four"),
        (Op.REFUSED,),
        (Op.RECORD, ((0, (Op.LONG,)),), (), tuple),
        (Op.RECORD, ((-2, (Op.LONG,)),), (None,), tuple),
        (Op.RECORD, ("f",), (None,), tuple),
    ],
)
def test_a_wrong_plan_is_an_error(native: ModuleType, plan: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        native.Reader(plan, MalformedError)


def test_wrong_calls_are_errors(native: ModuleType) -> None:
    read = native.Reader((Op.LONG,), MalformedError)
    for given in ((), (b"\x02",), (b"\x02", "0"), ("text", 0), (b"\x02", 0, 1)):
        with pytest.raises(TypeError):
            read(*given)
    for start in (-1, 2):
        with pytest.raises(MalformedError):
            read(b"\x02", start)
    write = native.Writer((Op.RECORD, ((("a",), (Op.LONG,)),)), b"", 2)
    with pytest.raises(TypeError):
        write()
    with pytest.raises(TypeError):
        write(None)
    with pytest.raises(OverflowError):
        write(1 << 63)


def test_nothing_is_kept_of_what_was_read_or_failed(native: ModuleType) -> None:
    class Made:
        def __init__(self, *fields: Any) -> None:
            if fields[0] == 13:
                raise ValueError("unlucky")
            self.fields = fields

    shared: tuple[Any, ...] = (object(), {"a": 1}, [])
    fields = ((0, (Op.LONG,)), (-1, (Op.MAP, (Op.STRING,), True)))
    read = native.Reader((Op.RECORD, fields, (None, *shared), Made), MalformedError)
    good, bad, cut = b"\x02\x02\x02a\x02b\x00", b"\x1a\x00", b"\x02\x02\x02a"
    assert read(good, 0).fields == (1, *shared)
    assert read(good, 0).fields[2] is not shared[1]
    before = [sys.getrefcount(one) for one in (Made, *shared)]
    for _ in range(1000):
        read(good, 0)
        for broken, why in ((bad, "unlucky"), (cut, "index")):
            with pytest.raises((ValueError, IndexError), match=why):
                read(broken, 0)
    assert [sys.getrefcount(one) for one in (Made, *shared)] == before


def test_a_slot_is_found_in_each_type_and_an_unset_one_is_an_error(native: ModuleType) -> None:
    class Plain:
        b = 3
        a = property(lambda self: 4)

    one_type, other_type = (
        type("Slotted", (), {"__slots__": names}) for names in (("a", "b"), ("z", "b", "c", "a"))
    )
    one: Any = one_type()
    other: Any = other_type()
    one.a, one.b, other.a, other.b = 1, 2, 5, 6
    names = ((("a",), (Op.LONG,)), (("b",), (Op.LONG,)))
    write = native.Writer((Op.RECORD, names), b"", 0)
    for _ in range(3):
        assert write(one) == b"\x02\x04"
        assert write(other) == b"\x0a\x0c"
        assert write(Plain()) == b"\x08\x06"
        with pytest.raises(AttributeError):
            write(one_type())
