"""Serve a study's pages with uvicorn."""

import logging
import socket
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from harmonyiqa.errors import UserError
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
        listener = _listen(host, port)
        app = make_app(store, settings)
        config = uvicorn.Config(app, access_log=False, server_header=False, log_config=None, lifespan="off")
        name = f"[{host}]" if ":" in host else host
        logger.info(
            "serving %s on http://%s:%s; links begin with %s",
            folder,
            name,
            listener.getsockname()[1],
            settings.address,
        )
        if urlsplit(settings.address).scheme == "http" and not _is_loopback(host):
            logger.warning(
                "links and votes cross the network readable: put a proxy with HTTPS in front and leave --host alone"
            )
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        store.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error}; choose another --port") from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
