"""Asks the worker that knows: decide workers for state, ledger workers for history.

Both write where they answer into Kafka (``web/worker_directory.py``). A question goes to the owner
directly, with the hop header, so it is never passed on; an owner that has moved answers 503, then
the directory is asked once more. The whole takes at most ``owner_ms_max``.

Invariant: no answer is ever made up: no owner, no time or a broken answer is 503 with Retry-After.
"""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import quote

import aiohttp
import msgspec

from streams import topics
from streams.api.problems import CONTENT_TYPE, Problem, ProblemError, refuse
from streams.api.settings import ApiSettings
from streams.engine.settings import EngineSettings
from streams.ledger.directory import ledger_group
from streams.partitioning import partition_of_recipient
from streams.web.decide_owners import group_of
from streams.web.decide_pages import PATH
from streams.web.internal import headers as internal_headers
from streams.web.state_documents import OwnedPartitions, SeenAnswers, SeenQuestion, SeenQuestions
from streams.web.worker_directory import WorkerDirectory

log = logging.getLogger(__name__)
AGAIN_PAUSE_MS = 50
CONNECTIONS_MAX = 256


class Answered(msgspec.Struct, frozen=True):
    """What a worker said."""

    status: int
    body: bytes
    etag: str | None = None
    content_type: str = "application/json"


class StateClient:
    """Questions of the API to decide and ledger workers."""

    def __init__(self, settings: ApiSettings, engine: EngineSettings) -> None:
        self._settings = settings
        self._partitions = engine.partitions
        timeout_ms = settings.owner_ms_max
        application = engine.application
        self._decide = WorkerDirectory(
            engine, group_of(application), topics.PREFERENCES, timeout_ms
        )
        self._ledger = WorkerDirectory(
            engine, ledger_group(application), topics.DECISIONS, timeout_ms
        )
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Opens the connections as they are needed."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.owner_ms_max / 1000),
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
        )

    async def stop(self) -> None:
        """Closes them."""
        if self._session is not None:
            await self._session.close()
        await self._decide.stop()
        await self._ledger.stop()

    def partition(self, recipient_id: str) -> int:
        """Where everything about a recipient is."""
        return partition_of_recipient(recipient_id, self._partitions)

    async def _send(
        self, method: str, url: str, path: str, body: bytes | None = None, hop: bool = True
    ) -> Answered | None:
        """The worker's answer; ``None`` when there is none in time."""
        assert self._session is not None, "not started"
        headers = {
            "Content-Type": "application/json",
            **internal_headers(self._settings.internal_secret, is_hop=hop),
        }
        try:
            async with self._session.request(
                method, url.rstrip("/") + path, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return Answered(
                    answer.status,
                    await answer.read(),
                    answer.headers.get("ETag"),
                    answer.content_type,
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("no answer from a worker: %s", type(error).__name__)
            return None

    # ------------------------------------------------------------------------------------- decide

    async def of_recipient(
        self, method: str, recipient_id: str, what: str, body: bytes | None = None
    ) -> Answered:
        """The owner's answer about ``what`` of a recipient. Raises ``ProblemError``."""
        path = f"{PATH}/recipients/{quote(recipient_id, safe='')}/{what}"
        return await self.of_partition(method, self.partition(recipient_id), path, body)

    async def of_partition(
        self, method: str, partition: int, path: str, body: bytes | None = None
    ) -> Answered:
        """The owner's answer. Raises ``ProblemError``: what the owner refused, or 503."""
        try:
            async with asyncio.timeout(self._settings.owner_ms_max / 1000):
                return await self._asked_twice(method, partition, path, body)
        except TimeoutError as error:
            raise self._not_now("The worker that knows did not answer in time.") from error

    async def _asked_twice(
        self, method: str, partition: int, path: str, body: bytes | None
    ) -> Answered:
        for is_last in (False, True):
            url = (await self._owners()).get(partition)
            said = await self._send(method, url, path, body) if url else None
            if said is not None and said.status != 503:
                if said.status >= 400:
                    raise _refused(said)
                return said
            if is_last:
                break
            self._decide.forget()
            await asyncio.sleep(AGAIN_PAUSE_MS / 1000)
        if said is not None:
            raise _refused(said)
        raise self._not_now("No worker has this recipient at the moment.")

    async def _owners(self) -> dict[int, str]:
        """Decide workers by partition: those that are named in the settings, or all there are."""
        urls = self._settings.decide_urls
        if not urls:
            return await self._decide.all()
        if len(urls) == 1:
            return dict.fromkeys(range(self._partitions), urls[0])
        answers = await asyncio.gather(*(self._owned_by(url) for url in urls))
        return {partition: url for url, owned in answers for partition in owned}

    async def _owned_by(self, url: str) -> tuple[str, list[int]]:
        said = await self._send("GET", url, f"{PATH}/partitions")
        if said is None or said.status != 200:
            return url, []
        owned = msgspec.json.decode(said.body, type=OwnedPartitions)
        return url, [*owned.ready, *owned.catching_up]

    async def seen(self, questions: list[SeenQuestion]) -> list[str]:
        """Which ids came before; ``unknown`` for whatever nobody answers in time."""
        answers = ["unknown"] * len(questions)
        try:
            async with asyncio.timeout(self._settings.seen_ms_max / 1000):
                owners = await self._owners()
                by_url: dict[str, list[int]] = {}
                for place, question in enumerate(questions):
                    url = owners.get(self.partition(question.recipient_id))
                    if url is not None:
                        by_url.setdefault(url, []).append(place)
                await asyncio.gather(
                    *(self._seen(url, places, questions, answers) for url, places in by_url.items())
                )
        except TimeoutError:
            pass
        return answers

    async def _seen(
        self, url: str, places: list[int], questions: list[SeenQuestion], answers: list[str]
    ) -> None:
        body = msgspec.json.encode(SeenQuestions([questions[place] for place in places]))
        said = await self._send("POST", url, f"{PATH}/seen", body)
        if said is not None and said.status == 200:
            found = msgspec.json.decode(said.body, type=SeenAnswers)
            for place, answer in zip(places, found.answers, strict=True):
                answers[place] = answer

    # ------------------------------------------------------------------------------------- ledger

    async def of_ledger(self, partition: int, path_and_query: str) -> Answered:
        """The ledger's answer, whatever its status. Raises ``ProblemError`` when there is none."""
        url: str | None = self._settings.ledger_url
        hop = not url
        if not url:
            url = await self._ledger.url_of(partition)
        said = await self._send("GET", url, path_and_query, hop=hop) if url else None
        if said is None:
            self._ledger.forget()
            raise self._not_now("The ledger does not answer.")
        if said.status == 503:
            self._ledger.forget()
            raise self._not_now("The ledger is catching up.")
        return said

    def _not_now(self, why: str) -> ProblemError:
        return refuse("unavailable", why, retry_after_s=self._settings.retry_after_s)


def _refused(said: Answered) -> ProblemError:
    """The owner's own problem, passed on; anything else it may have said is ours to explain."""
    if said.content_type == CONTENT_TYPE:
        try:
            found = msgspec.json.decode(said.body, type=Problem)
        except msgspec.DecodeError:
            pass
        else:
            if found.status not in (401, 403):
                return ProblemError(found, {"ETag": said.etag} if said.etag else {})
    log.error("a worker answered %d", said.status)
    return refuse("unavailable", "The worker that knows could not answer.", retry_after_s=1)
