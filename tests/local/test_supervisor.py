"""The supervisor with real processes: what is told, what comes back, and that nothing stays."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streams.local.children import Child, ChildFailed, Event, http_ok
from streams.local.processes import LOG_BYTES_MAX, describe_exit, free_port, read_tail, rotate
from streams.local.supervisor import Supervisor
from tests.eventually import eventually, eventually_blocking

FOREVER = "import time\nprint('up', flush=True)\ntime.sleep(600)"
IGNORES_SIGTERM = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FOREVER}"


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


def make(tmp_path: Path, *children: Child) -> tuple[Supervisor, list[Event]]:
    events: list[Event] = []
    return Supervisor(children, tmp_path / "logs", events.append), events


def told(events: list[Event], *kinds: str) -> list[tuple[str, str]]:
    return [(event.kind, event.name) for event in events if not kinds or event.kind in kinds]


async def test_each_child_starts_when_the_one_before_is_ready_and_stops_in_reverse(
    tmp_path: Path,
) -> None:
    supervisor, events = make(
        tmp_path,
        Child("one", python(FOREVER), ready="up"),
        Child("two", python(FOREVER), ready="up"),
    )
    async with supervisor:
        pids = [supervisor.pid("one"), supervisor.pid("two")]
        assert all(pid and psutil.pid_exists(pid) for pid in pids)
    assert told(events) == [
        ("starting", "one"),
        ("ready", "one"),
        ("starting", "two"),
        ("ready", "two"),
        ("stopping", "two"),
        ("stopped", "two"),
        ("stopping", "one"),
        ("stopped", "one"),
    ]
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    assert supervisor.pid("one") is None


async def test_a_crash_is_told_by_name_exit_code_and_last_lines(tmp_path: Path) -> None:
    code = "import sys\nprint('up')\nprint('no such table: preferences')\nsys.exit(3)"
    supervisor, events = make(tmp_path, Child("decide", python(code), ready="never printed"))
    with pytest.raises(ChildFailed) as failed:
        await supervisor.start()
    assert failed.value.event.text == "decide ended before it was ready: exit code 3"
    assert failed.value.event.tail.splitlines() == ["up", "no such table: preferences"]
    assert told(events) == [("starting", "decide"), ("crashed", "decide")]


async def test_a_death_by_signal_is_told_by_the_signals_name(tmp_path: Path) -> None:
    code = "import os, signal\nprint('up', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)"
    supervisor, _ = make(tmp_path, Child("deliver", python(code)))
    with pytest.raises(ChildFailed, match="deliver ended: killed by SIGSEGV"):
        async with supervisor:
            await supervisor.wait()


async def test_a_program_that_does_not_exist_is_a_failure_with_its_name(tmp_path: Path) -> None:
    supervisor, _ = make(tmp_path, Child("registry", ["no-such-program-here"], ready="up"))
    with pytest.raises(ChildFailed, match="cannot start no-such-program-here: No such file"):
        await supervisor.start()


async def test_a_child_that_was_never_ready_is_not_started_again(tmp_path: Path) -> None:
    child = Child("api", python("raise SystemExit(78)"), ready="up", restart="always")
    supervisor, events = make(tmp_path, child)
    with pytest.raises(ChildFailed, match="api ended before it was ready: exit code 78"):
        await supervisor.start()
    assert told(events, "starting") == [("starting", "api")]


async def test_a_child_that_is_not_ready_in_time_is_killed_and_told(tmp_path: Path) -> None:
    child = Child("ledger", python(FOREVER), ready="this never comes", ready_deadline_s=0.5)
    supervisor, events = make(tmp_path, child)
    with pytest.raises(ChildFailed, match=r"ledger was not ready within 0\.5 s and was killed"):
        await supervisor.start()
    assert events[-1].pid
    assert not psutil.pid_exists(events[-1].pid)


async def test_crashes_are_followed_by_a_bounded_number_of_restarts(tmp_path: Path) -> None:
    code = "import time\nprint('up', flush=True)\ntime.sleep(0.3)\nraise SystemExit(1)"
    child = Child(
        "decide", python(code), ready="up", restart="always", restarts_max=2, backoff_s=0.01
    )
    supervisor, events = make(tmp_path, child)
    async with supervisor:
        with pytest.raises(ChildFailed, match="decide ended: exit code 1"):
            await supervisor.wait()
    one_life = [("starting", "decide"), ("ready", "decide"), ("crashed", "decide")]
    again = [("restarting", "decide")]
    assert told(events) == one_life + again + one_life + again + one_life


async def test_a_child_that_was_killed_on_purpose_comes_back_and_uses_up_no_restart(
    tmp_path: Path,
) -> None:
    child = Child(
        "decide", python(FOREVER), ready="up", restart="always", restarts_max=0, backoff_s=0.01
    )
    supervisor, events = make(tmp_path, child)
    async with supervisor:
        for _ in range(2):
            before = supervisor.pid("decide")
            supervisor.kill("decide", signal.SIGKILL)
            await supervisor.wait_ready("decide")
            assert supervisor.pid("decide") not in (None, before)
    assert told(events, "crashed") == []
    assert told(events, "killed") == 2 * [("killed", "decide")]
    assert "decide was ended by SIGKILL, as asked" in [event.text for event in events]


async def test_a_killed_child_without_restarts_stays_down_until_restart(tmp_path: Path) -> None:
    supervisor, events = make(
        tmp_path,
        Child("broker", python(FOREVER), ready="up"),
        Child("other", python(FOREVER), ready="up"),
    )
    async with supervisor:
        supervisor.kill("broker")
        await eventually(lambda: told(events, "killed"))
        with pytest.raises(ChildFailed, match="broker does not run"):
            await supervisor.wait_ready("broker")
        assert supervisor.pid("other")
        await supervisor.restart("broker")
        assert supervisor.pid("broker")


async def test_restart_of_a_running_child_stops_it_first(tmp_path: Path) -> None:
    supervisor, events = make(tmp_path, Child("api", python(FOREVER), ready="up"))
    async with supervisor:
        before = supervisor.pid("api")
        await supervisor.restart("api")
        assert supervisor.pid("api") not in (None, before)
        assert told(events, "stopped") == [("stopped", "api")]


async def test_what_ignores_sigterm_is_killed_with_all_it_has_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print('grandchild', child.pid, flush=True)\n" + IGNORES_SIGTERM
    )
    supervisor, events = make(
        tmp_path, Child("stubborn", python(code), ready="up", stop_deadline_s=0.3)
    )
    async with supervisor:
        log = read_tail(tmp_path / "logs" / "stubborn.log")
        grandchild = int(log.split()[1])
        assert psutil.pid_exists(grandchild)
    assert events[-1].text == "stubborn did not stop within 0.3 s and was killed"
    await eventually(lambda: is_gone(grandchild))


async def test_a_child_that_is_held_by_sigstop_can_still_be_stopped_in_order(
    tmp_path: Path,
) -> None:
    supervisor, events = make(tmp_path, Child("zombie", python(FOREVER), ready="up"))
    async with supervisor:
        pid = supervisor.pid("zombie")
        assert pid
        supervisor.kill("zombie", signal.SIGSTOP)
        await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    assert events[-1].text == "zombie has stopped"


async def test_http_ok_holds_only_for_a_200(tmp_path: Path) -> None:
    port = free_port()
    server = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    check, missing = http_ok(f"http://127.0.0.1:{port}/"), http_ok(f"http://127.0.0.1:{port}/none")
    assert not await check()
    supervisor, _ = make(tmp_path, Child("web", server, ready=check))
    async with supervisor:
        assert await check()
        assert not await missing()


async def test_run_ends_when_all_have_finished_and_tells_a_failure_by_its_result(
    tmp_path: Path,
) -> None:
    done, _ = make(tmp_path, Child("publisher", python("print('up')"), ready="up"))
    assert await done.run() == 0
    failing, events = make(
        tmp_path,
        Child("keeps running", python(FOREVER), ready="up"),
        Child("publisher", python("print('up'); raise SystemExit(2)")),
    )
    assert await failing.run() == 1
    assert told(events)[-1] == ("stopped", "keeps running")


def test_two_children_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'twin'"):
        make(tmp_path, Child("twin", ["true"]), Child("twin", ["true"]))


async def test_a_child_that_says_too_much_is_still_heard_at_its_end(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "chatty.log"
    log.parent.mkdir()
    log.write_text("of an earlier run\n")
    # Until it has been cut short: what is said while it is copied goes with what is cut.
    code = (
        "import os, sys, time\n"
        f"print('x' * {LOG_BYTES_MAX})\nsys.stdout.flush()\n"
        f"while os.path.getsize({str(log)!r}): time.sleep(0.01)\n"
        "print('last words')\nsys.exit(5)"
    )
    supervisor, events = make(tmp_path, Child("chatty", python(code)))
    with pytest.raises(ChildFailed):
        async with supervisor:
            await supervisor.wait()
    assert events[-1].tail == "last words"


# --- a supervisor that is itself a process: signals, and its own death


SUPERVISED = f"""
import asyncio, sys
from pathlib import Path
from streams.local.supervisor import Child, Supervisor

folder = Path(sys.argv[1])
def tell(event):
    print(event.kind, event.name, event.pid, flush=True)
    if event.kind == "ready" and event.name == "two":
        print("all up", flush=True)
python = [sys.executable, "-I", "-c"]
children = [
    Child("one", [*python, {FOREVER!r}], ready="up"),
    Child("two", [*python, {IGNORES_SIGTERM!r}], ready="up", stop_deadline_s=float(sys.argv[2])),
]
sys.exit(asyncio.run(Supervisor(children, folder, tell).run()))
"""


class Supervised:
    """A supervisor in a process of its own, with two children; the second ignores SIGTERM."""

    def __init__(self, folder: Path, stop_deadline_s: float) -> None:
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISED, str(folder), str(stop_deadline_s)],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        eventually_blocking(lambda: "all up" in self.text)
        self.children = [
            int(line.split()[2]) for line in self.text.splitlines() if line.startswith("ready")
        ]

    @property
    def text(self) -> str:
        return self.output.read_text()


@pytest.fixture
def supervised(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path, request.param)
    yield running
    running.process.kill()
    running.process.wait()


def is_gone(pid: int) -> bool:
    """Whether it has exited; init may not yet have collected it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("supervised", [0.3], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_in_reverse_order(
    supervised: Supervised, number: signal.Signals
) -> None:
    supervised.process.send_signal(number)
    assert supervised.process.wait(timeout=20) == 0
    assert all(is_gone(pid) for pid in supervised.children)
    stopped = [line.split()[1] for line in supervised.text.splitlines() if "stopped" in line]
    assert stopped == ["two", "one"]


@pytest.mark.parametrize("supervised", [600], indirect=True)
def test_a_second_ctrl_c_kills_at_once(supervised: Supervised) -> None:
    supervised.process.send_signal(signal.SIGINT)
    eventually_blocking(lambda: "stopping two" in supervised.text)
    supervised.process.send_signal(signal.SIGINT)
    supervised.process.wait(timeout=20)
    assert all(is_gone(pid) for pid in supervised.children)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of a parent's death")
@pytest.mark.parametrize("supervised", [600], indirect=True)
def test_children_do_not_outlive_a_killed_supervisor(supervised: Supervised) -> None:
    os.kill(supervised.process.pid, signal.SIGKILL)
    eventually_blocking(lambda: all(is_gone(pid) for pid in supervised.children))


# --- the pieces it stands on


@pytest.mark.parametrize(
    ("returncode", "text"),
    [
        (3, "exit code 3"),
        (0, "exit code 0"),
        (-9, "killed by SIGKILL"),
        (143, "killed by SIGTERM"),
        (255, "exit code 255"),
    ],
)
def test_an_exit_is_described(returncode: int, text: str) -> None:
    assert describe_exit(returncode) == text


def test_a_log_is_bounded_while_it_is_held_open(tmp_path: Path) -> None:
    path = tmp_path / "child.log"
    with path.open("ab") as log:
        log.write(b"x" * LOG_BYTES_MAX)
        log.flush()
        assert not rotate(path)
        log.write(b"one more\n")
        log.flush()
        assert rotate(path)
        log.write(b"afterwards\n")
        log.flush()
    assert path.read_bytes() == b"afterwards\n"
    assert (tmp_path / "child.log.1").stat().st_size == LOG_BYTES_MAX + len("one more\n")
