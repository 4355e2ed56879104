"""What a test does to disks: damage to files, small file systems, and a look at what is stored."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rocksdict import AccessType, Rdict, ReadOptions

from streams.engine.store import DUE_INDEX, FOLLOWED_KEY, due_of_key

Harm = str
HARMS: tuple[Harm, ...] = ("deleted", "flipped", "truncated")
FLIPS = 20


def harm(folder: Path, how: Harm, draw: random.Random) -> None:
    """Does it to every database below ``folder``, none of which is in use."""
    if how == "deleted":
        shutil.rmtree(folder)
        return
    for database in sorted(folder.glob("partition-*")):
        files = sorted(
            path
            for path in database.iterdir()
            if path.suffix in (".sst", ".log") and path.stat().st_size
        )
        for path in files:
            content = bytearray(path.read_bytes())
            if how == "truncated":
                content = content[: draw.randrange(len(content))]
            else:
                for _ in range(FLIPS):
                    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            path.write_bytes(content)


def contents(database: Path) -> tuple[dict[bytes, bytes], list[tuple[int, bytes]]]:
    """(state, due index) of a database that nobody has open."""
    opened: Any = Rdict(str(database), access_type=AccessType.read_only())
    index: Any = opened.get_column_family(DUE_INDEX)
    try:
        everything = ReadOptions()
        everything.set_total_order_seek(True)
        state = dict(opened.items(read_opt=everything))
        state.pop(FOLLOWED_KEY, None)
        due = [due_of_key(key) for key, _ in index.items()]
    finally:
        index.close()
        opened.close()
    return state, due


@contextlib.contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[None]:
    """A file system of ``mib`` MiB at ``folder``; skips the test where it cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system (tmpfs) needs root")
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fills a file system to its last byte; returns the file to delete."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4_096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\xff" * size) == size:
                    pass
    return path
