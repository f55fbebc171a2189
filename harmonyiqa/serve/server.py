"""Serve a model with uvicorn, and stop without losing a request."""

import asyncio
import contextlib
import logging
import signal
from types import FrameType

import python_multipart  # noqa: F401  # starlette fails at the first form without it
import uvicorn

from harmonyiqa import HarmonyIQA
from harmonyiqa.network import address_of, is_loopback, listen
from harmonyiqa.pipelines.score import pick_device
from harmonyiqa.serve.service import Service
from harmonyiqa.serve.settings import Limits
from harmonyiqa.serve.web import make_app

logger = logging.getLogger(__name__)

_LAST_BYTES = 5  # seconds in which clients take their answers, after the last is made


def serve_model(
    model: str | None, host: str, port: int, token: str | None, device: str | None, text: bool, limits: Limits
) -> None:
    """Serve until told to stop; then answer what was accepted, and return.

    Args:
        model: as in `HarmonyIQA.from_pretrained`.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        token: what clients must show, if anything.
        device: where the model runs.
        text: as in `Caller`.
        limits: how much is taken on at a time.

    Raises:
        UserError: the address cannot be listened on, or the model cannot be loaded.
    """
    with contextlib.closing(
        listen(host, port)
    ) as listener:  # a port in use is known before a model is loaded
        scorer = HarmonyIQA.from_pretrained(model, device=pick_device(device))
        service = Service(scorer, limits, text=text)
        app = make_app(service, token)
        config = uvicorn.Config(
            app,
            access_log=False,
            server_header=False,
            log_config=None,
            lifespan="off",
            http="h11",  # what the extra brings; the same where rate's faster parser is installed
            ws="none",
            timeout_graceful_shutdown=_LAST_BYTES,
        )
        logger.info("serving %s on %s", scorer.name, address_of(listener, host))
        if not is_loopback(host):
            logger.warning("images and token cross the network readable: put a proxy with HTTPS in front")
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        Server(config, service).run(sockets=[listener])
        service.close()
        logger.info("stopped: %d requests accepted, all answered", service.accepted)


class Server(uvicorn.Server):
    """uvicorn that answers newcomers while it finishes what it accepted, and then exits with 0.

    A second signal has the effect that it has on any program: it ends at once.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def main_loop(self) -> None:
        """Until a signal, and on until nobody is in the house."""
        await super().main_loop()
        self._service.drain()
        while self._service.in_house:
            await asyncio.sleep(0.02)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. uvicorn's own would raise the signal again at the end, and the status would not be 0."""
        self.should_exit = True
        self._service.drain()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
