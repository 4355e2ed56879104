"""What the demo may wipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.local.demo import DemoFailedError, wipe


def test_a_folder_of_an_earlier_demo_is_wiped(tmp_path: Path) -> None:
    wipe(tmp_path / "demo")
    (tmp_path / "demo" / "old").touch()
    wipe(tmp_path / "demo")
    assert not (tmp_path / "demo" / "old").exists()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    wipe(tmp_path)
    assert tmp_path.exists()


def test_somebody_elses_files_are_never_wiped(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DemoFailedError, match="no demo has made"):
        wipe(tmp_path)
    assert (tmp_path / "thesis.tex").exists()
