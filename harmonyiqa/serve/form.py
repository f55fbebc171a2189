"""A request's body: multipart, checked while it arrives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import HTTPException, Request
from PIL import Image
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message

from harmonyiqa.images import SUFFIXES
from harmonyiqa.serve.service import Upload
from harmonyiqa.serve.settings import Limits

FIELDS = ("image", "reference")
_MEDIA_TYPE = "multipart/form-data"
_MOST_TEXT = 64 * 1024  # bytes of a part that is no file: it is refused, but for what it is


def gone() -> HTTPException:
    """What to raise where nobody is left to read an answer; nginx counts such requests as 499 too."""
    return HTTPException(499, "the client has gone")


def describe_form() -> dict[str, Any]:
    """The body as OpenAPI describes it."""
    formats = Image.registered_extensions()
    types = ", ".join(sorted({Image.MIME[formats[suffix]] for suffix in SUFFIXES}))
    texts = ("The image to score.", "The untouched photo that it is compared with (full reference).")
    files = {
        name: {"type": "string", "format": "binary", "description": text}
        for name, text in zip(FIELDS, texts, strict=True)
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                _MEDIA_TYPE: {
                    "schema": {
                        "type": "object",
                        "properties": files,
                        "required": ["image"],
                        "additionalProperties": False,
                    },
                    "encoding": {name: {"contentType": types} for name in FIELDS},
                }
            },
        }
    }


@asynccontextmanager
async def read_form(request: Request, limits: Limits) -> AsyncIterator[tuple[Upload, Upload | None]]:
    """The image and its reference, as long as the block runs; beyond 1 MiB a file lies on disk.

    Raises:
        HTTPException: 400 no sound multipart, 408 it takes too long, 413 too large, 415 another type, 422 other fields
            than those described.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
        raise HTTPException(
            415, f"send {_MEDIA_TYPE} with a file named image, as curl -F image=@photo.jpg does"
        )
    limited = Request(request.scope, _limited(request, limits))
    try:
        async with asyncio.timeout(limits.timeout):
            form = await limited.form(max_files=len(FIELDS), max_fields=len(FIELDS), max_part_size=_MOST_TEXT)
    except TimeoutError as error:
        raise HTTPException(
            408, f"the request took more than {limits.timeout:g} seconds to arrive", {"Connection": "close"}
        ) from error
    except ClientDisconnect as error:
        raise gone() from error
    except UnicodeError as error:  # of the charset that the request names
        raise HTTPException(400, f"the form's names cannot be read: {error}") from error
    try:
        yield _uploads(form)
    finally:
        await form.close()


def _limited(request: Request, limits: Limits) -> Callable[[], Awaitable[Message]]:
    """`receive` of a request, until its body is too large; a length that says so beforehand is enough."""
    too_large = HTTPException(
        413, f"the request is above the limit of {limits.max_upload:g} MiB; make the image smaller"
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.max_bytes:
        raise too_large
    arrived = 0

    async def receive() -> Message:
        nonlocal arrived
        message = await request.receive()
        arrived += len(message.get("body", b""))
        if arrived > limits.max_bytes:
            raise too_large
        return message

    return receive


def _uploads(form: FormData) -> tuple[Upload, Upload | None]:
    found: dict[str, Upload] = {}
    for name, value in form.multi_items():
        if name not in FIELDS:
            raise HTTPException(422, f"unknown field {name!r}: the fields are {' and '.join(FIELDS)}")
        if not isinstance(value, UploadFile):
            raise HTTPException(422, f"{name} is text: send a file, as curl -F {name}=@photo.jpg does")
        if name in found:
            raise HTTPException(422, f"two files named {name}: send one request an image")
        found[name] = Upload(value.filename or name, value.file)
    if "image" not in found:
        raise HTTPException(422, "there is no file named image: send one, as curl -F image=@photo.jpg does")
    return found["image"], found.get("reference")
