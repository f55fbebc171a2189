"""What every request passes: size limit, rate limit for strangers, safe headers, a log of refusals."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import MutableHeaders

logger = logging.getLogger(__name__)

LARGEST_BODY = 16 * 1024  # bytes; the page sends a few hundred
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Limiter:
    """Counts requests by key in windows of fixed length; in memory, for the one process that serves a study.

    Args:
        rate: as the library `limits` writes it: ``20/minute``.
    """

    def __init__(self, rate: str) -> None:
        self._rate = parse(rate)
        self._windows = FixedWindowRateLimiter(MemoryStorage())

    def allows(self, key: str) -> bool:
        """Count one more request of ``key``; False if that is one too many."""
        return self._windows.hit(self._rate, key)


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 413 if its body is too long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})  # where the routes note who asks

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if message["status"] >= 400:
                    _log_refusal(scope, message["status"])
            await send(message)

        body = await _read(receive)
        if body is None:
            await _too_large(send_guarded)
            return
        replies = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_again() -> Message:
            return next(replies, None) or await receive()

        await self._app(scope, receive_again, send_guarded)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None as soon as it is too long, whatever its header says."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body  # the client has gone
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            return None
        if not message.get("more_body"):
            return body


async def _too_large(send: Send) -> None:
    content = b'{"detail":"the request is too large"}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _log_refusal(scope: Scope, status: int) -> None:
    """One line without secrets: paths under /join hold one, so of those only the beginning is told."""
    client = scope["client"][0] if scope.get("client") else "unknown"
    path = scope["path"]
    shown = path.split("/join/")[0] + "/join/..." if "/join/" in path else path
    who = scope["state"].get("who", "a stranger")
    # repr: no line break from a client enters the log
    logger.warning("refused %s %s %.200r from %s (%s)", status, scope["method"], shown, client, who)
