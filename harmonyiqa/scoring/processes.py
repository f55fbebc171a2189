"""The processes of one run (``torchrun``, ``accelerate launch``): who this is, and what they tell each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch.distributed

from harmonyiqa.errors import UserError

Value = TypeVar("Value")


def place() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gather(value: Value) -> list[Value]:
    """What each process gave, by rank. All have to call it, and wait for each other."""
    processes = place()[1]
    if processes == 1:
        return [value]
    values: list[Value] = [value] * processes
    torch.distributed.all_gather_object(values, value)
    return values


@contextmanager
def together() -> Iterator[None]:
    """What goes wrong in the block for one process, goes wrong for all: none is left waiting.

    Raises:
        UserError: the first that a process raised, in all of them.
    """
    error: UserError | None = None
    try:
        yield
    except UserError as raised:
        error = raised
    first = next((message for message in gather(error and str(error)) if message is not None), None)
    if first is not None:
        raise UserError(first) from error
