"""Secrets in links: long, kept only as hashes, compared in constant time."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import TypeVar

Who = TypeVar("Who")


def new_secret() -> str:
    """256 random bits, safe in a URL (43 characters)."""
    return secrets.token_urlsafe(32)


def new_media_id() -> str:
    """128 random bits: tells nothing of the file behind it."""
    return secrets.token_hex(16)


def hashed(secret: str) -> bytes:
    """What is stored of a secret: SHA-256. It has no structure to guess, so no salt or slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def owner(secret: str, known: Iterable[tuple[Who, bytes]]) -> Who | None:
    """Whose secret it is; None if nobody's. Every hash is compared, each in constant time."""
    asked, found = hashed(secret), None
    for who, digest in known:
        if hmac.compare_digest(asked, digest):
            found = who
    return found


def form_token(secret: str) -> str:
    """What a page must send with each change (against CSRF): known only to pages opened with the secret."""
    return hmac.new(secret.encode(), b"harmonyiqa form token", hashlib.sha256).hexdigest()
