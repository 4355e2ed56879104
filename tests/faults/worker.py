"""One worker process of a site, as an operator would have it."""

from __future__ import annotations

import signal

from streams.local.processes import ManagedProcess
from tests.eventually import eventually


class Worker:
    """One worker process."""

    def __init__(
        self, name: str, role: str, process: ManagedProcess, port: int, environment: dict[str, str]
    ) -> None:
        self.environment = environment
        self.name = name
        self.role = role
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        self.process.signal(number)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self.process.kill()

    async def ended(self, deadline_s: float = 60.0) -> int:
        """Its status, once it has ended by itself."""
        await eventually(lambda: not self.alive, deadline_s)
        status = self.process.returncode
        assert status is not None
        return status

    async def stop(self) -> int:
        """SIGTERM, and its end."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def log(self) -> str:
        return self.process.output()
