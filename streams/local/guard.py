"""A one-second life between fork and exec: ties the child that it becomes to its parent's life.

What: `python -I -S guard.py PARENT_PID PROGRAM ARGUMENT...` asks Linux to send this process SIGKILL
when its parent dies (`prctl(PR_SET_PDEATHSIG)`, see prctl(2)), then becomes PROGRAM. The request
outlives exec, so the broker's JVM and the workers carry it.

Why a program and not `preexec_fn`: code that runs between fork and exec in a process with threads
can deadlock, and Python says so. This is a whole new process when it runs.

Invariants: a child never outlives the process that started it, however that one died. On systems
without prctl (macOS) only an orderly stop ends the child.

Known edge, from prctl(2): "parent" is the *thread* that forked. Start children from a thread that
lives as long as they should; in this project that is the main thread.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent_pid, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the request was in place
            os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot start {program[0]}: {error.strerror}")


main()
