"""Who may come in, and the pages that they see."""

import hmac
from typing import Literal
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from harmonyiqa.rate.protection import Limiter
from harmonyiqa.rate.secret_links import form_token, owner
from harmonyiqa.rate.settings import StudySettings
from harmonyiqa.rate.store import Rater, Store

COOKIE_SECONDS = 180 * 24 * 3600
_STRANGERS = "30/minute"  # refusals an address gets an answer to; a known secret is never held up by others
_RATER = "60/second"  # images included; people vote once in seconds


class Door:
    """Who is asking? Raters and the organizer have a secret in a cookie, put there by their link.

    The checks are coroutines though they wait for nothing: FastAPI would send each plain function to a thread.
    """

    def __init__(self, store: Store, settings: StudySettings) -> None:
        self._raters = {rater.id: rater for rater in store.raters()}
        self._known = [(rater.id, rater.secret) for rater in self._raters.values()]
        self._admin = [(True, store.facts.admin)]
        self._study = store.facts.study
        self._https = urlsplit(settings.address).scheme == "https"
        self._strangers, self._busy = Limiter(_STRANGERS), Limiter(_RATER)

    async def rater(self, request: Request) -> Rater:
        """The rater whose cookie this is; else 401. More than 60 requests a second are refused with 429."""
        found = owner(self._secret(request, "rater"), self._known)
        if found is None:
            raise self._stranger(request)
        rater = self._raters[found]
        request.state.who = rater.name
        if not self._busy.allows(rater.name):
            raise HTTPException(429, "too many requests; wait a second", {"Retry-After": "1"})
        return rater

    async def changing_rater(self, request: Request) -> Rater:
        """As :meth:`rater`, for requests that change something: they also bear the page's token; else 403."""
        rater = await self.rater(request)
        self._check_token(request, "rater")
        return rater

    async def admin(self, request: Request) -> None:
        """401 unless this is the organizer."""
        if not owner(self._secret(request, "admin"), self._admin):
            raise self._stranger(request)
        request.state.who = "the organizer"

    async def changing_admin(self, request: Request) -> None:
        """As :meth:`admin`, with the page's token."""
        await self.admin(request)
        self._check_token(request, "admin")

    def enter(self, request: Request, role: Literal["rater", "admin"], secret: str) -> Response:
        """Follow a link: put its secret into a cookie and go on to the page, or 401."""
        known = bool(owner(secret, self._known if role == "rater" else self._admin))
        if not known:
            raise self._stranger(request)
        page = "/" if role == "rater" else "/admin"
        response = RedirectResponse(page, 303)
        response.set_cookie(
            self._cookie(role),
            secret,
            max_age=COOKIE_SECONDS,
            path=page,
            secure=self._https,
            httponly=True,
            samesite="lax",  # strict would lose the cookie on the way from a mail to the page
        )
        return response

    def token(self, request: Request, role: Literal["rater", "admin"]) -> str:
        """What the page must send along with changes."""
        return form_token(self._secret(request, role))

    def _check_token(self, request: Request, role: Literal["rater", "admin"]) -> None:
        sent = request.headers.get("x-form-token", "").encode()
        if not hmac.compare_digest(sent, self.token(request, role).encode()):
            raise HTTPException(403, "this request did not come from the study's page; load the page again")

    def _cookie(self, role: str) -> str:
        return f"{role}_{self._study}"

    def _secret(self, request: Request, role: str) -> str:
        return request.cookies.get(self._cookie(role), "")

    def _stranger(self, request: Request) -> HTTPException:
        address = request.client.host if request.client else "unknown"
        if not self._strangers.allows(address):
            return HTTPException(429, "too many attempts; wait a minute", {"Retry-After": "60"})
        return HTTPException(401, "this needs your personal link; open your invitation again")


class Pages:
    """HTML from templates; every value is escaped."""

    def __init__(self, settings: StudySettings) -> None:
        self._templates = Environment(
            loader=PackageLoader("harmonyiqa.rate"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._settings = settings

    def render(self, template: str, status: int = 200, **values: object) -> HTMLResponse:
        """One page; ``settings`` is known to every template."""
        return HTMLResponse(
            self._templates.get_template(template).render(settings=self._settings, **values), status
        )
