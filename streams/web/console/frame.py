"""What every request for a page passes: who asks, which format, the answer, or why there is none.

HTML gets the frame (navigation, form tokens, security headers), JSON and CSV are the same document
without it. Whoever is not known gets the login page, or 401 where a program asks.

Invariants: a page's ``load`` never runs without the scope that the page names; a form that was not
made for this browser and session changes nothing; every answer has the security headers.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram

from streams.api.keys import Scope
from streams.api.problems import (
    CONTENT_TYPE,
    Problem,
    ProblemError,
    headers_of,
    of_http_exception,
    problem,
    refuse,
)
from streams.web.access import BROWSER_COOKIE, Access, Asker
from streams.web.console import formats, render
from streams.web.console.page import Page, Visit
from streams.web.sessions import new_browser
from streams.web.settings import WebSettings

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FORM_BYTES_MAX = 65_536
TOKEN_FIELD = "form_token"  # noqa: S105 (a name)


class PageMetrics:
    """What is counted of pages. ``registry`` is added to the worker's."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.pages = Counter(
            "flowstate_pages", "Pages shown, by page and status.", ["page", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "flowstate_page_seconds", "Time until a page was answered.", ["page"],
            registry=self.registry,
        )  # fmt: skip
        self.logins = Counter(
            "flowstate_logins", "Logins, by what came of them.", ["result"], registry=self.registry
        )

    def collect(self) -> Any:
        """What a registry asks of a collector."""
        return self.registry.collect()


class Frame:
    """Answers requests for pages. One per worker."""

    def __init__(self, settings: WebSettings, access: Access, metrics: PageMetrics) -> None:
        self.settings = settings
        self.access = access
        self.metrics = metrics
        self.navigation: Sequence[Page] = ()
        self._templates = render.environment()
        self.helpers: dict[str, Any] = {}
        """Functions that templates may call."""
        self.stream: Callable[[Page, Visit], Awaitable[web.StreamResponse]] | None = None
        """Answers ``?format=events``; set by ``live.py``."""

    # ------------------------------------------------------------------------------- one request

    def handler(self, page: Page) -> Handler:
        """A page's handler."""

        async def answered(request: web.Request) -> web.StreamResponse:
            with self.metrics.seconds.labels(page.operation).time():
                return await self._answered(page, request)

        async def handle(request: web.Request) -> web.StreamResponse:
            if request.query.get("format") == "events":
                response = await self._answered(page, request)
            else:
                response = await answered(request)
            self.metrics.pages.labels(page.operation, str(response.status)).inc()
            return response

        return handle

    async def _answered(self, page: Page, request: web.Request) -> web.StreamResponse:
        kind: formats.Format = "html"
        try:
            kind = formats.wanted(request)
            visit = self.visit(request, page.scope)
            if kind == "events" and page.is_live and self.stream is not None:
                return await self.stream(page, visit)
            document = await page.load(visit)
        except ProblemError as error:
            return self.refusal(request, kind, error.problem, error.headers)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return self.refusal(request, kind, of_http_exception(error))
        except Exception:
            log.exception("the page %s failed", page.operation)
            return self.refusal(request, kind, problem("internal", "The worker's log has it."))
        if isinstance(document, web.StreamResponse):
            return document
        return self._shown(page, visit, kind, document)

    def visit(self, request: web.Request, scope: Scope) -> Visit:
        """The request, once it is known that it may. Raises ``ProblemError``: 401, 403."""
        asker = self.access.require(request, scope)
        arguments = dict(request.match_info)
        if arguments:
            last = list(arguments)[-1]
            arguments[last] = formats.without_suffix(request, arguments[last])
        return Visit(request, asker, arguments)

    def _shown(
        self, page: Page, visit: Visit, kind: formats.Format, document: Any
    ) -> web.StreamResponse:
        if kind == "json" or kind == "events":
            return self.respond(formats.as_json(document), "application/json")
        if kind == "csv":
            if page.rows is None:
                found = problem("invalid", "This page has no listing, so it cannot be CSV.")
                return self.refusal(visit.request, kind, found)
            response = self.respond(formats.as_csv(page.rows(document)), "text/csv")
            name = f'attachment; filename="flowstate-{page.operation}.csv"'
            response.headers["Content-Disposition"] = name
            return response
        return self.html(page.template, visit.request, visit.asker, visit=visit, page=page,
                         doc=document)  # fmt: skip

    # ----------------------------------------------------------------------------------- answers

    def html(
        self,
        template: str,
        request: web.Request,
        asker: Asker | None,
        status: int = 200,
        **values: Any,
    ) -> web.Response:
        """A rendered page in the frame."""
        browser = request.cookies.get(BROWSER_COOKIE) or new_browser()
        context = self.context(request, asker, browser, values)
        text = self._templates.get_template(template).render(context)
        response = self.respond(text.encode(), "text/html", status)
        if BROWSER_COOKIE not in request.cookies:
            self.set_cookie(response, BROWSER_COOKIE, browser)
        return response

    def block(self, template: str, block: str, request: web.Request, asker: Asker, **values: Any
              ) -> str:  # fmt: skip
        """One block of a page, for what is sent anew."""
        browser = request.cookies.get(BROWSER_COOKIE, "")
        found = self._templates.get_template(template)
        context = found.new_context(self.context(request, asker, browser, values))
        return "".join(found.blocks[block](context))

    def context(
        self, request: web.Request, asker: Asker | None, browser: str, values: dict[str, Any]
    ) -> dict[str, Any]:
        """What every template may use."""
        session = "" if asker is None else asker.session
        return {
            "navigation": [] if asker is None else self.navigation,
            "asker": asker,
            "path": request.path,
            "form_token": self.access.sessions.form_token(browser, session),
            "now_ms": self.access.now_ms(),
            "page": None,
            "visit": None,
            **self.helpers,
            **values,
        }

    def refusal(
        self,
        request: web.Request,
        kind: formats.Format,
        refused: Problem,
        headers: dict[str, str] | None = None,
    ) -> web.Response:
        """Why there is no page; for people who are not known, the way to the login."""
        if kind != "html":
            response = self.respond(msgspec.json.encode(refused), CONTENT_TYPE, refused.status)
        elif refused.status == 401 and request.method == "GET":
            raise web.HTTPFound(f"/login{render.query(next=request.path_qs)}")
        else:
            response = self.html("problem.html", request, None, refused.status, problem=refused)
        response.headers.update({**headers_of(refused), **(headers or {})})
        return response

    def respond(self, body: bytes, content_type: str, status: int = 200) -> web.Response:
        """A body with the headers that every answer has."""
        return web.Response(
            body=body, status=status, content_type=content_type, charset="utf-8",
            headers=render.HTTP_HEADERS,
        )  # fmt: skip

    def set_cookie(self, response: web.StreamResponse, name: str, value: str) -> None:
        """A cookie that no script reads and no other site sends."""
        response.set_cookie(
            name, value, httponly=True, samesite="Strict", secure=self.settings.is_https, path="/"
        )

    # ------------------------------------------------------------------------------------- forms

    async def form(self, request: web.Request, asker: Asker | None) -> dict[str, list[str]]:
        """Fields of a form of ours. Raises ``ProblemError``: 403 for one that is not."""
        if (request.content_length or 0) > FORM_BYTES_MAX:
            raise refuse("too_large", f"A form has at most {FORM_BYTES_MAX} bytes.")
        sent = await request.post()
        fields: dict[str, list[str]] = {}
        for name, value in sent.items():
            if isinstance(value, str):
                fields.setdefault(name, []).append(value)
        token = fields.get(TOKEN_FIELD, [""])[0]
        browser = request.cookies.get(BROWSER_COOKIE, "")
        session = "" if asker is None else asker.session
        if not self.access.sessions.fits(token, browser, session):
            raise refuse(
                "forbidden", "The form is too old, or not of this browser: load the page again."
            )
        return fields
