"""A failure that a person can do something about: one sentence, and what to do.

A command raises ``CommandError`` for everything that is expected to go wrong sometimes (no
broker there, a port taken, a file missing); the command line prints it without a traceback and
exits with 1. Mistakes in the use of a command are click's and exit with 2. Whatever else is
raised is a bug and keeps its traceback.
"""

from __future__ import annotations


class CommandError(Exception):
    """An expected failure: ``message`` says what happened and ``remedy`` what to do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message, self.remedy = message, remedy
        super().__init__(f"{message}\n{remedy}" if remedy else message)
