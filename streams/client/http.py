"""The client over HTTP.

Retries are tenacity's: exponential with jitter, never sooner than ``Retry-After`` says, at most
``attempts_max`` tries and ``total_s_max`` in all. What is sent again is always the same bytes under
the same ids, so that a request whose answer was lost counts once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.stop import stop_after_delay
from tenacity.wait import wait_random_exponential

from streams.api.events import EventsAnswer
from streams.api.problems import Problem
from streams.client.errors import ClientError, Conflict, Refused, Unavailable, VersionChanged
from streams.client.types import Accepted, Answer, Event, NotAccepted, Versioned
from streams.web.state_documents import PreferencesDocument, RecipientPreferences

ITEMS_MAX = 1_000
Result = TypeVar("Result")


class HttpClient:
    """Use as ``async with``. One is enough for a process."""

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        attempts_max: int = 5,
        total_s_max: float = 30.0,
        request_s_max: float = 12.0,
        backoff_s_max: float = 5.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._attempts_max = attempts_max
        self._total_s_max = total_s_max
        self._request_s_max = request_s_max
        self._backoff = wait_random_exponential(multiplier=0.1, max=backoff_s_max)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._request_s_max)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    # ------------------------------------------------------------------------------------- events

    async def send(self, events: Sequence[Event]) -> list[Answer]:
        """What became of each event, in order; those that are unavailable are tried again.

        Raises ``Refused`` when the request itself is refused (a bad key).
        """
        answers: list[Answer] = []
        for start in range(0, len(events), ITEMS_MAX):
            answers += await self._send(events[start : start + ITEMS_MAX])
        return answers

    async def _send(self, events: Sequence[Event]) -> list[Answer]:
        answers: list[Answer] = [
            NotAccepted(event.event_id, "unavailable", "It was not answered.", retry=True)
            for event in events
        ]
        open_places = list(range(len(events)))

        async def once() -> None:
            nonlocal open_places
            body = msgspec.json.encode([events[place] for place in open_places])
            status, headers, said = await self._once("POST", "/v1/events", body)
            found = _batch(status, headers, said)
            for place, item in zip(open_places, found.items, strict=True):
                answers[place] = _answer(item.event_id, item.repeated, item.problem)
            open_places = [p for p in open_places if _may_retry(answers[p])]
            if open_places:
                raise Unavailable("some were not accepted", None, _retry_after(headers))

        with contextlib.suppress(Unavailable):  # the answers say which, and why
            await self._retried(once)
        return answers

    async def cancel(self, recipient_id: str, event_id: str) -> str:
        """``cancelled``, ``too_late``, ``remembered`` or ``pending``. Raises ``ClientError``."""
        path = f"/v1/events/{quote(event_id, safe='')}?recipient_id={quote(recipient_id, safe='')}"
        try:
            _, body = await self._call("DELETE", path)
        except Conflict:
            return "too_late"
        return str(msgspec.json.decode(body)["status"])

    # -------------------------------------------------------------------------------- preferences

    async def preferences(self, recipient_id: str) -> Versioned:
        """A recipient's preferences. Raises ``ClientError``."""
        return await self._preferences("GET", recipient_id)

    async def replace_preferences(
        self, recipient_id: str, preferences: PreferencesDocument, version: str
    ) -> Versioned:
        """Replaces all of them, if ``version`` is still the present one.

        Raises ``VersionChanged`` when it is not, and other ``ClientError``.
        """
        document = msgspec.to_builtins(preferences)
        document.pop("updated_at_ms", None)
        body = msgspec.json.encode(document)
        return await self._preferences("PUT", recipient_id, body, version)

    async def change_preferences(
        self, recipient_id: str, patch: dict[str, Any], version: str | None = None
    ) -> Versioned:
        """Changes some of them (a JSON merge patch); ``version`` as in ``replace_preferences``."""
        return await self._preferences("PATCH", recipient_id, msgspec.json.encode(patch), version)

    async def _preferences(
        self, method: str, recipient_id: str, body: bytes | None = None, version: str | None = None
    ) -> Versioned:
        path = f"/v1/recipients/{quote(recipient_id, safe='')}/preferences"
        headers = {"If-Match": version} if version is not None else {}
        _, said = await self._call(method, path, body, headers)
        found = msgspec.json.decode(said, type=RecipientPreferences)
        return Versioned(found.preferences, found.etag)

    # ------------------------------------------------------------------------------------ requests

    async def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Any = None
    ) -> tuple[int, bytes]:
        async def once() -> tuple[int, bytes]:
            status, answered, said = await self._once(method, path, body, headers)
            if status >= 400:
                raise _error(status, answered, said)
            return status, said

        return await self._retried(once)

    async def _once(
        self, method: str, path: str, body: bytes | None = None, headers: Any = None
    ) -> tuple[int, Any, bytes]:
        assert self._session is not None, "use the client as `async with`"
        sent = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=body,
                headers={**sent, **(headers or {})},
                allow_redirects=False,
            ) as answer:
                return answer.status, answer.headers, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"no answer: {type(error).__name__}") from error

    async def _retried(self, once: Callable[[], Awaitable[Result]]) -> Result:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_attempt(self._attempts_max) | stop_after_delay(self._total_s_max),
            wait=self._wait,
            reraise=True,
        )
        return await retrying(once)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked_s = error.retry_after_s if isinstance(error, Unavailable) else None
        return max(asked_s or 0.0, self._backoff(state))


def _batch(status: int, headers: Any, said: bytes) -> EventsAnswer:
    """The answer to a batch, item by item. Raises what the whole request was refused with."""
    try:
        return msgspec.json.decode(said, type=EventsAnswer)
    except msgspec.DecodeError as error:
        if status >= 400:
            raise _error(status, headers, said) from None
        raise Unavailable(f"an answer ({status}) that cannot be read") from error


def _answer(event_id: str | None, repeated: bool, refused: Problem | None) -> Answer:
    if refused is None:
        return Accepted(event_id or "", repeated)
    reason = refused.type.rpartition(":")[2]
    return NotAccepted(event_id, reason, refused.detail, retry=refused.status in (429, 503))


def _may_retry(answer: Answer) -> bool:
    return isinstance(answer, NotAccepted) and answer.retry


def _retry_after(headers: Any) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _error(status: int, headers: Any, said: bytes) -> ClientError:
    try:
        found: Problem | None = msgspec.json.decode(said, type=Problem)
    except msgspec.DecodeError:
        found = None
    text = f"{found.title}: {found.detail}" if found is not None else f"status {status}"
    if status in (429, 502, 503, 504):
        return Unavailable(text, found, _retry_after(headers))
    kinds = {409: Conflict, 412: VersionChanged}
    return kinds.get(status, Refused)(text, found)
