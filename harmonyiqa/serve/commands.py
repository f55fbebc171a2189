"""``harmonyiqa serve``."""

import os
import re

from harmonyiqa.errors import UserError
from harmonyiqa.images import DEFAULT_MAX_PIXELS
from harmonyiqa.network import extra_needed, is_loopback

TOKEN = "HARMONYIQA_TOKEN"


def serve(
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    device: str | None = None,
    text: bool = False,
    batch_size: int | None = None,
    threads: int = 2,
    queue: int = 128,
    wait: float = 5,
    timeout: float = 30,
    max_upload: float = 32,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> None:
    """Score images over HTTP until stopped: POST /score with a file `image`, and `reference` if there is one.

    Args:
        model: A model folder or a hub id. Default: the bundled model, no network needed.
        host: Network address to listen on; the default is reached from this machine only, another wants a token.
        port: Port to listen on; 0 takes a free one.
        token: What clients must show (Authorization: Bearer). Default: the environment's HARMONYIQA_TOKEN, which
            other users of the machine cannot read in the list of processes.
        device: Where the model runs, such as cpu or cuda:1. Default: a GPU if there is one.
        text: Read the score from the sentence that the model generates, not from its score head.
        batch_size: Images a model call at most. Default: as many as the device's token budget holds.
        threads: Images that are decoded at a time.
        queue: Requests in the house at a time; one more is told to come again (429).
        wait: Milliseconds that a model call waits for requests that are on their way.
        timeout: Seconds in which a request must have arrived (408), and again in which it must be scored (504).
        max_upload: MiB of a request at most (413).
        max_pixels: The most pixels (width x height) an image may have.

    Raises:
        UserError: a setting, the model or the address is wrong.
    """
    token = os.environ.get(TOKEN) if token is None else token
    if token is not None and not re.fullmatch("[!-~]+", token):
        raise UserError(f"the token must be printable ASCII without blanks; see --token and {TOKEN}")
    if token is None and not is_loopback(host):
        raise UserError(
            f"host {host} can be reached from other machines: set {TOKEN} (or --token), "
            "or leave --host alone and put a proxy in front"
        )
    with extra_needed("serve", "serve"):
        from harmonyiqa.serve.server import serve_model
        from harmonyiqa.serve.settings import Limits
    limits = Limits(queue, batch_size, threads, wait, timeout, max_upload, max_pixels)
    serve_model(model, host, port, token, device, text, limits)
