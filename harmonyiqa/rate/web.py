"""The study as a web application: pages and requests of raters. The rules of a vote are in `course.py`."""

import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from harmonyiqa.rate.admin import add_admin
from harmonyiqa.rate.bodies import Pause, Screen, Vote
from harmonyiqa.rate.course import Course, Refused, Situation
from harmonyiqa.rate.door import COOKIE_SECONDS, Door, Pages
from harmonyiqa.rate.protection import Guard
from harmonyiqa.rate.settings import StudySettings
from harmonyiqa.rate.store import Rater, Store
from harmonyiqa.rate.study import MEDIA

_HERE = Path(__file__).parent
_JSON_PATHS = ("/api/", "/media/", "/admin/api/")  # what a script asks for; a person gets a page


@dataclass(frozen=True, slots=True)
class Receipt:
    """The vote that is on the disk, whether it was there before, and what comes next."""

    saved: int
    repeated: bool
    situation: Situation


def make_app(store: Store, settings: StudySettings, clock: Callable[[], float] = time.time) -> FastAPI:
    """The application, for uvicorn or a test client.

    Args:
        store: an open study; it is not closed here.
        settings: its texts and times.
        clock: seconds since 1970.
    """
    # no /docs: that page loads scripts from elsewhere; no /openapi.json: only tests want it
    app = FastAPI(title="HarmonyIQA rating study", openapi_url=None)
    door, pages = Door(store, settings), Pages(settings)
    hosts = [urlsplit(settings.address).hostname or "", "127.0.0.1", "localhost"]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(Guard)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    _add_raters(app, store, Course(store, settings), door, pages, clock)
    add_admin(app, store, door, pages)
    _add_refusals(app, pages)
    return app


def _add_raters(
    app: FastAPI, store: Store, course: Course, door: Door, pages: Pages, clock: Callable[[], float]
) -> None:
    reading, changing = Depends(door.rater), Depends(door.changing_rater)

    @app.get("/join/{secret}", response_class=HTMLResponse)
    def join(secret: str, request: Request) -> Response:
        return door.enter(request, "rater", secret)

    sizes = [(media.width, media.height) for media in store.media.values()]
    largest = max(width for width, _ in sizes), max(height for _, height in sizes)

    async def ask(rule: Callable[..., Situation], *values: object) -> Situation:
        # a commit waits for the disk, and other raters must not wait with it
        return await run_in_threadpool(rule, *values, clock())

    @app.get("/", response_class=HTMLResponse)
    async def page(request: Request, rater: Rater = reading) -> HTMLResponse:
        now = await ask(course.situation, rater.id)
        return pages.render(
            "rate.html" if now.stage == "rate" else "between.html",
            token=door.token(request, "rater"),
            mode=store.facts.mode,
            largest=largest,
            now=now,
        )

    @app.get("/api/state")
    async def state(rater: Rater = reading) -> Situation:
        return await ask(course.situation, rater.id)

    @app.post("/api/consent")
    async def consent(rater: Rater = changing) -> Situation:
        return await ask(course.consent, rater.id)

    @app.post("/api/session")
    async def session(screen: Screen, rater: Rater = changing) -> Situation:
        return await ask(course.start_session, rater.id, json.dumps(screen.model_dump()))

    @app.post("/api/pause")
    async def pause(body: Pause, rater: Rater = changing) -> Situation:
        return await ask(course.pause, rater.id, body.paused)

    @app.post("/api/vote")
    async def vote(body: Vote, rater: Rater = changing) -> Receipt:
        given = (rater.id, body.position, body.revision, body.value, body.milliseconds)
        saved, now = await run_in_threadpool(course.vote, *given, clock())
        return Receipt(saved.value, saved.repeated, now)

    @app.get("/media/{media_id}", response_class=FileResponse)
    def media(media_id: str, rater: Rater = reading) -> FileResponse:
        found = store.media.get(media_id)
        if found is None:
            raise HTTPException(404, "there is no such image")
        return FileResponse(
            store.folder / MEDIA / found.file,
            headers={"Cache-Control": f"private, max-age={COOKIE_SECONDS}, immutable"},
        )


def _add_refusals(app: FastAPI, pages: Pages) -> None:
    """A person gets a page, a script gets JSON."""

    def answer(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
        if request.url.path.startswith(_JSON_PATHS):
            return JSONResponse({"detail": detail}, status, headers)
        response = pages.render("refused.html", status, detail=detail)
        response.headers.update(headers or {})
        return response

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, error: StarletteHTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Refused)
    def not_now(request: Request, error: Refused) -> Response:
        return answer(request, 409, str(error))

    @app.exception_handler(sqlite3.OperationalError)
    def no_disk(request: Request, error: sqlite3.OperationalError) -> Response:
        return answer(request, 503, f"the study cannot be written just now ({error}); nothing was saved")
