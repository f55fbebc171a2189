"""The service as a web application."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, TypeVar

from fastapi import FastAPI, HTTPException, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harmonyiqa import HarmonyIQA, __version__
from harmonyiqa.pipelines.score import model_note
from harmonyiqa.scoring.resume import describe
from harmonyiqa.serve.form import describe_form, gone, read_form
from harmonyiqa.serve.metrics import Metrics
from harmonyiqa.serve.service import Draining, Full, Service

_AGAIN = {"Retry-After": "1"}
Value = TypeVar("Value")


class Score(BaseModel):
    """A score, and what the number means."""

    score: float = Field(description="On the scale of `range`, which it may leave a little.")
    range: list[float] = Field(
        description="The scale of mean opinion scores: lowest, highest.", min_length=2, max_length=2
    )
    lower_better: bool = Field(description="Whether a lower score is the better one.")
    mode: Literal["nr", "fr"] = Field(description="By itself (nr), or against the reference (fr).")
    reading: Literal["head", "text"] = Field(description="From the score head, or from a generated sentence.")
    model: str = Field(description="The model's name.")
    model_hash: str = Field(description="Of its weights and settings: equal where scores can be compared.")
    version: str = Field(description="Of harmonyiqa.")
    note: str = Field(description="What the model learned from.")


class Health(BaseModel):
    """Whether requests are let in."""

    status: Literal["ready", "draining"]
    model: str
    version: str


class Problem(BaseModel):
    """Why there is no score: one sentence."""

    detail: str


_SAID: dict[int, str] = {
    400: "The body is no sound multipart form.",
    401: "The token is missing or wrong.",
    408: "The request took too long to arrive.",
    413: "The request is too large.",
    415: "The request is no multipart form.",
    422: "The form has not the described files, or an image cannot be scored; `detail` says why.",
    429: "As many requests are being answered as may be.",
    500: "The service failed; its log says how.",
    503: "The service is being stopped.",
    504: "Scoring took too long.",
}
_WAITS = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
}


def make_app(service: Service, token: str | None = None) -> FastAPI:
    """The application, for uvicorn or a test client.

    Args:
        service: not closed here.
        token: what `/score` and `/metrics` ask for as `Authorization: Bearer TOKEN`, if anything.
    """
    # no /docs: that page loads scripts from elsewhere
    app = FastAPI(
        title="HarmonyIQA",
        version=__version__,
        description="Does this composite image look right to people?",
        docs_url=None,
        redoc_url=None,
    )
    guarded = [] if token is None else [Security(_bearer(token))]
    app.add_middleware(_Counted, metrics=service.metrics)
    _add_score(app, service, guarded)

    @app.get("/health", response_model=Health, responses={503: {"model": Health, "description": "Draining."}})
    async def health() -> JSONResponse:
        """Whether requests are let in."""
        status: Literal["ready", "draining"] = "draining" if service.draining else "ready"
        found = Health(status=status, model=service.model.name, version=__version__)
        return JSONResponse(found.model_dump(), 503 if service.draining else 200)

    @app.get(
        "/metrics",
        dependencies=guarded,
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **_problems([401] if guarded else []),
        },
    )
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _add_score(app: FastAPI, service: Service, guarded: list[Any]) -> None:
    about: dict[str, Any] = {
        "range": HarmonyIQA.score_range,
        "lower_better": HarmonyIQA.lower_better,
        "reading": "text" if service.reads_text else "head",
        "model": service.model.name,
        "model_hash": describe(service.model)["model_hash"],
        "version": __version__,
        "note": model_note(service.model),
    }
    said = [status for status in _SAID if guarded or status != 401]

    @app.post("/score", dependencies=guarded, responses=_problems(said), openapi_extra=describe_form())
    async def score(request: Request) -> Score:
        """How harmonious an image looks, by itself or against a reference."""
        with service.admitted():
            async with read_form(request, service.limits) as (image, reference):
                outcome = await _unless_gone(request, service.score(image, reference))
        if isinstance(outcome, str):
            raise HTTPException(422, outcome)
        return Score(score=outcome, mode="nr" if reference is None else "fr", **about)

    @app.exception_handler(Full)
    async def full(request: Request, error: Full) -> Response:
        return _refuse(429, f"{service.limits.queue} requests are being answered; try again", _AGAIN)

    @app.exception_handler(Draining)
    async def draining(request: Request, error: Draining) -> Response:
        return _refuse(503, "the service is being stopped", {**_AGAIN, "Connection": "close"})

    @app.exception_handler(TimeoutError)
    async def late(request: Request, error: TimeoutError) -> Response:
        return _refuse(504, f"not scored within {service.limits.timeout:g} seconds", None)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _refuse(500, "the service failed; its log says how", None)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Value]) -> Value:
    """The result of some work, which ends with the client: nobody reads what it would give.

    Raises:
        HTTPException: the client has gone.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_end(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise gone()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})  # what they clean up counts before the request is over


async def _end(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _bearer(token: str) -> Callable[..., Awaitable[None]]:
    scheme = Security(HTTPBearer(auto_error=False))

    async def check(given: HTTPAuthorizationCredentials | None = scheme) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(
                401, "give the token as Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )

    return check


def _problems(statuses: list[int]) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        found[status] = {"model": Problem, "description": _SAID[status]}
        if status in (429, 503):
            found[status]["headers"] = _WAITS
    return found


def _refuse(status: int, detail: str, headers: dict[str, str] | None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


class _Counted:
    """ASGI middleware: answers to /score, and how long they took."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["path"] != "/score":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            self._metrics.answer(status, time.perf_counter() - begun)
