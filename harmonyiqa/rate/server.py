"""Serve a study's pages with uvicorn."""

import logging
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from harmonyiqa.network import address_of, is_loopback, listen
from harmonyiqa.rate.study import open_study
from harmonyiqa.rate.web import make_app

logger = logging.getLogger(__name__)


def serve_study(folder: Path, host: str, port: int) -> None:
    """Serve until interrupted.

    Behind a proxy on this machine (Caddy, nginx), the client's address is taken from X-Forwarded-For.

    Args:
        folder: the study.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.

    Raises:
        UserError: if ``folder`` is no study, or the address cannot be listened on.
    """
    store, settings = open_study(folder)
    try:
        listener = listen(host, port)
        app = make_app(store, settings)
        config = uvicorn.Config(app, access_log=False, server_header=False, log_config=None, lifespan="off")
        where = address_of(listener, host)
        logger.info("serving %s on %s; links begin with %s", folder, where, settings.address)
        if urlsplit(settings.address).scheme == "http" and not is_loopback(host):
            logger.warning(
                "links and votes cross the network readable: put a proxy with HTTPS in front and leave --host alone"
            )
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        store.close()
