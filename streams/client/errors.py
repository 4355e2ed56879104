"""What can go wrong, named by what the caller can do about it."""

from __future__ import annotations

from streams.api.problems import Problem


class ClientError(Exception):
    """Base of all of these. ``problem`` is the server's own words, where it gave any."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class Refused(ClientError):  # noqa: N818 (a state, named for what happened)
    """It will never be accepted as it is: mend it."""


class Conflict(Refused):
    """The id was used before, for something else."""


class VersionChanged(Refused):
    """Somebody else changed it meanwhile: read it again, and make the change to what it is now."""


class Unavailable(ClientError):  # noqa: N818
    """Not possible at the moment, after all tries: send the same again later."""

    def __init__(
        self, message: str, problem: Problem | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, problem)
        self.retry_after_s = retry_after_s
