"""A service around the tiny scorer, and what clients send to it."""

import io
import json
import shutil
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from harmonyiqa import HarmonyIQA
from harmonyiqa.model.inputs import Example
from harmonyiqa.scoring.caller import Caller
from harmonyiqa.scoring.engine import predict
from harmonyiqa.scoring.items import Item
from harmonyiqa.scoring.locations import Encoded
from harmonyiqa.scoring.plan import Outcome
from harmonyiqa.serve.service import Service
from harmonyiqa.serve.settings import Limits
from harmonyiqa.serve.web import make_app
from tests.scoring.test_hostile import bomb

MakeService = Callable[..., Service]


def picture(seed: int, kind: str = "PNG", size: tuple[int, int] = (48, 40)) -> bytes:
    """An image file, no two seeds alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


BROKEN = {
    "text": b"no image",
    "empty": b"",
    "cut off": picture(0)[:200],
    "bomb": bomb(100_000),
    "gif": b"GIF89a" + bytes(100),
}


def multipart(files: Mapping[str, bytes], boundary: str = "0a1b2c") -> tuple[bytes, dict[str, str]]:
    """A request's body and its content type; each file is called by its field."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in files.items()
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def engine_says(
    model: HarmonyIQA, image: bytes, reference: bytes | None = None, **options: int
) -> float | str | None:
    """The score that `harmonyiqa score` gives to these bytes, or its row's error."""
    other = (None, None) if reference is None else ("reference", Encoded(reference))
    [row] = predict(model, [Item("image", other[0], Encoded(image), other[1])], **options)
    return row.error if row.score is None else row.score


@pytest.fixture(scope="session")
def tiny_scorer_folder(tiny_scorer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny scorer on HarmonyIQAD's scale, so that float32's steps are those of real scores."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(tiny_scorer_folder, folder)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    settings |= {"mos_mean": 49.88, "mos_std": 13.11}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def scorer(tiny_scorer_folder: Path) -> HarmonyIQA:
    """Loaded once: a service leaves its model as it is."""
    return HarmonyIQA.from_pretrained(tiny_scorer_folder)


@pytest.fixture
def make_service(scorer: HarmonyIQA) -> Iterator[MakeService]:
    """Call it with limits for a service around the tiny scorer."""
    services: list[Service] = []

    def make(*, text: bool = False, **limits: float) -> Service:
        services.append(Service(scorer, Limits(**limits), text=text))  # type: ignore[arg-type]
        return services[-1]

    yield make
    for service in services:
        service.close()


@pytest.fixture
def service(make_service: MakeService) -> Service:
    """With the limits that users get."""
    return make_service()


@pytest.fixture
def client(service: Service) -> TestClient:
    """A client of `service`."""
    return TestClient(make_app(service), raise_server_exceptions=False)


class Gate(Caller):
    """A caller that makes no call while its gate is shut, and remembers those that it was asked for."""

    def __init__(self, model: HarmonyIQA, **options: bool) -> None:
        super().__init__(model, **options)
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.calls: list[list[Example]] = []
        self.failure: Exception | None = None

    def score(self, examples: Sequence[Example], references: Sequence[Hashable | None]) -> list[Outcome]:
        self.calls.append(list(examples))
        self.begun.release()
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return super().score(examples, references)
