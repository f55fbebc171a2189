"""How much the service takes on at a time."""

import math
from dataclasses import dataclass, fields

from harmonyiqa.errors import UserError
from harmonyiqa.images import DEFAULT_MAX_PIXELS


@dataclass(frozen=True)
class Limits:
    """What a client cannot exceed.

    Attributes:
        queue: requests in the house at a time, from their first byte to their answer.
        batch_size: images a model call at most; None: as many as the device's token budget holds.
        threads: images that are decoded at a time.
        wait: milliseconds that a model call waits for requests that are on their way.
        timeout: seconds in which a request must have arrived, and again in which it must be scored.
        max_upload: MiB of a request's body.
        max_pixels: pixels of an image.
    """

    queue: int = 128
    batch_size: int | None = None
    threads: int = 2
    wait: float = 5
    timeout: float = 30
    max_upload: float = 32
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and each.name != "wait" and not 0 < value < math.inf:
                raise UserError(f"{each.name} {value} must be above 0, and finite")
        if not 0 <= self.wait < math.inf:
            raise UserError(f"wait {self.wait} must not be below 0, and finite")

    @property
    def max_bytes(self) -> int:
        """Bytes of a request's body."""
        return int(self.max_upload * 2**20)
