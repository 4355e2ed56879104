"""A changed catalogue is taken whole, a wrong one not at all, a half-written one not yet."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from streams.configuration import reload
from streams.configuration.reload import CatalogueReload
from streams.core.policy import Policy
from streams.settings import load
from tests.eventually import eventually

ONE = "[categories.message]\n"
TWO = "[categories.message]\n[categories.news]\n"
WRONG = '[categories.message]\nchanels = ["push"]\n'


def write(file: Path, text: str) -> None:
    file.write_text(text)


class Looks:
    """How often the file was looked at."""

    def __init__(self) -> None:
        self.count = 0

    async def happen(self, more: int) -> None:
        wanted = self.count + more
        await eventually(lambda: self.count >= wanted)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    counted, digest = Looks(), reload._digest

    def look(path: Path) -> bytes | None:
        counted.count += 1
        return digest(path)

    monkeypatch.setattr(reload, "_digest", look)
    return counted


class Following:
    """A reload over a file of the test, and what it handed on."""

    def __init__(self, file: Path, poll_ms: int | None) -> None:
        self.file = file
        self.taken: list[Policy] = []
        self.loads = 0
        self.catalogue = CatalogueReload(file, self._load(), self._load, self.taken.append, poll_ms)

    def _load(self) -> Policy:
        self.loads += 1
        return load(self.file, environment={}).policy

    @property
    def versions(self) -> list[str]:
        return [policy.version for policy in self.taken]

    def metric(self, name: str) -> str:
        lines = generate_latest(self.catalogue.registry).decode().splitlines()
        return next(line.split()[-1] for line in lines if line.startswith(name))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flowstate.toml"
    path.write_text(ONE)
    return path


@asynccontextmanager
async def running(file: Path, poll_ms: int | None = 10) -> AsyncIterator[Following]:
    following = Following(file, poll_ms)
    await following.catalogue.start()
    try:
        yield following
    finally:
        await following.catalogue.stop()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_a_changed_file_is_taken_once(file: Path) -> None:
    async with running(file) as following:
        write(file, TWO)
        await eventually(lambda: following.taken)
        assert following.versions == [load(file, environment={}).policy.version]
        assert following.catalogue.policy is following.taken[0]
        assert set(following.taken[0].categories) == {"message", "news"}
        write(file, TWO + "# the same catalogue\n")
        await eventually(lambda: following.loads == 3)
        assert len(following.taken) == 1, "the same version was taken again"
        assert following.metric("flowstate_catalogue_reloads_total") == "1.0"
        name = f'flowstate_catalogue{{version="{following.versions[0]}"}}'
        assert following.metric(name) == "1.0"


async def test_a_wrong_one_is_refused_with_its_mistakes_and_the_old_one_stays(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(file) as following:
        before = following.catalogue.policy
        write(file, WRONG)
        await eventually(lambda: following.metric("flowstate_catalogue_refused") == "1.0")
        assert following.catalogue.policy is before
        assert following.taken == []
        assert 'did you mean "channels"' in caplog.text
        assert f"{before.version} stays" in caplog.text
        for text in ("not toml", "", '[categories.message]\nchannels = ["${NOT_SET}"]\n'):
            loads = following.loads
            write(file, text)
            await eventually(lambda loads=loads: following.loads > loads)  # type: ignore[misc]
        assert following.catalogue.policy is before
        write(file, TWO)
        await eventually(lambda: following.taken)
        assert following.metric("flowstate_catalogue_refused") == "0.0"
        assert int(float(following.metric("flowstate_catalogue_refusals_total"))) == 4


async def test_a_refused_content_is_judged_once_and_again_when_asked(
    file: Path, looks: Looks
) -> None:
    async with running(file) as following:
        write(file, WRONG)
        await eventually(lambda: following.loads == 2)
        await looks.happen(10)
        assert following.loads == 2
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: following.loads == 3)


async def test_sighup_alone_is_enough(file: Path) -> None:
    async with running(file, poll_ms=None) as following:
        write(file, TWO)
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: following.taken)
        assert "news" in following.catalogue.policy.categories


async def test_a_file_that_is_gone_for_a_moment_changes_nothing(file: Path, looks: Looks) -> None:
    async with running(file) as following:
        file.unlink()  # noqa: ASYNC240 (a file of the test)
        await looks.happen(5)
        assert following.loads == 1
        other = file.with_suffix(".new")
        other.write_text(TWO)
        other.rename(file)
        await eventually(lambda: following.taken)


async def test_a_file_still_being_written_is_left_alone(file: Path) -> None:
    following = Following(file, None)
    contents = iter([TWO[:21], TWO + "#", TWO + "##", TWO + "##", TWO + "##"])
    seen: list[str] = []

    async def look(_: float) -> None:
        text = next(contents, None)
        if text is None:
            raise asyncio.CancelledError
        write(file, text)
        seen.append(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", look)
        with pytest.raises(asyncio.CancelledError):
            await following.catalogue._watch(0.0)
    assert len(seen) == 5
    assert following.loads == 2, "read while it changed from one look to the next"
    assert len(following.taken) == 1


async def test_a_category_that_goes_is_named(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(file, TWO)
    following = Following(file, None)
    write(file, ONE)
    with caplog.at_level(logging.WARNING):
        assert await following.catalogue.reload()
    assert "has no category news any more" in caplog.text


async def test_a_bug_in_a_check_is_a_refusal(file: Path) -> None:
    def broken() -> Policy:
        raise RuntimeError("no such thing")

    policy = load(file, environment={}).policy
    catalogue = CatalogueReload(file, policy, broken, poll_ms=None)
    assert not await catalogue.reload()
    assert catalogue.policy is policy
