"""What the two servers have in common: an address to listen on, and an extra to install."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from harmonyiqa.errors import UserError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        UserError: the address cannot be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error}; choose another --port") from error


def address_of(listener: socket.socket, host: str) -> str:
    """Where a browser finds it: ``http://127.0.0.1:8000``."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def extra_needed(command: str, extra: str) -> Iterator[None]:
    """Say in one line what to install where an import of the block fails.

    Raises:
        UserError: a module is missing.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"{command} needs {error.name}: pip install 'harmonyiqa[{extra}]'") from error
