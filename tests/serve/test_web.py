"""Every answer of the service: right scores, or one sentence that says why there is none."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from harmonyiqa import HarmonyIQA, __version__
from harmonyiqa.pipelines.score import model_note
from harmonyiqa.serve import service as service_module
from harmonyiqa.serve.service import Service
from harmonyiqa.serve.web import make_app
from tests.serve.conftest import BROKEN, Gate, MakeService, engine_says, multipart, picture

IMAGE, REFERENCE = picture(1), picture(2)


def detail(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["detail"]
    return str(answer.json()["detail"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_a_score_is_the_engine_s(client: TestClient, scorer: HarmonyIQA, kind: str) -> None:
    image = picture(1, kind)
    answer = client.post("/score", files={"image": image})
    assert answer.status_code == 200
    assert answer.json() == {
        "score": pytest.approx(engine_says(scorer, image), abs=1e-5),
        "range": [0, 100],
        "lower_better": False,
        "mode": "nr",
        "reading": "head",
        "model": scorer.name,
        "model_hash": answer.json()["model_hash"],
        "version": __version__,
        "note": model_note(scorer),
    }
    assert len(answer.json()["model_hash"]) == 16
    assert "trained on synthetic scores" in answer.json()["note"]


def test_a_score_against_a_reference_is_the_engine_s(client: TestClient, scorer: HarmonyIQA) -> None:
    answer = client.post("/score", files={"image": IMAGE, "reference": REFERENCE}).json()
    assert answer["mode"] == "fr"
    assert answer["score"] == pytest.approx(engine_says(scorer, IMAGE, REFERENCE), abs=1e-5)
    assert abs(answer["score"] - client.post("/score", files={"image": IMAGE}).json()["score"]) > 1e-3


@pytest.mark.parametrize("field", ["image", "reference"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_bad_image_is_told_in_the_engine_s_words(
    client: TestClient, scorer: HarmonyIQA, broken: str, field: str
) -> None:
    files = {"image": IMAGE, field: BROKEN[broken]}
    said = detail(client.post("/score", files={name: (name, data) for name, data in files.items()}), 422)
    assert said == engine_says(scorer, **files)
    assert said.startswith(field)


def test_a_file_is_called_by_its_name(client: TestClient) -> None:
    assert detail(client.post("/score", files={"image": ("наш.png", b"")}), 422) == "наш.png is an empty file"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([("reference", IMAGE)], "there is no file named image"),
        ([("image", IMAGE), ("refrence", IMAGE)], "unknown field 'refrence'"),
        ([("image", IMAGE), ("image", IMAGE)], "two files named image"),
        ([("image", (None, "a.png"))], "image is text: send a file"),
    ],
)
def test_a_form_of_other_fields_is_refused(client: TestClient, files: list, said: str) -> None:
    assert said in detail(client.post("/score", files=files), 422)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("image/png", IMAGE, 415),
        ("application/x-www-form-urlencoded", b"image=1", 415),
        ("", b"", 415),
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", IMAGE, 400),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
            400,
        ),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: " + bytes(9000) + b"\r\n\r\n\r\n--x--", 400),
        ("multipart/form-data; boundary=" + "x" * 300, b"", 400),
        (
            "multipart/form-data; boundary=x; charset=undefined",
            b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--x--\r\n',
            400,
        ),
    ],
)
def test_what_is_no_form_is_refused(client: TestClient, content_type: str, body: bytes, status: int) -> None:
    detail(client.post("/score", content=body, headers={"Content-Type": content_type}), status)


def test_too_many_files_are_refused(client: TestClient) -> None:
    assert "Too many files" in detail(client.post("/score", files=[("image", IMAGE)] * 3), 400)


def test_the_pixel_limit_is_the_engine_s(make_service: MakeService, scorer: HarmonyIQA) -> None:
    client = TestClient(make_app(make_service(max_pixels=100)))
    said = detail(client.post("/score", files={"image": ("image", IMAGE)}), 422)
    assert said == engine_says(scorer, IMAGE, max_pixels=100)
    assert "above the limit of 100" in said


def test_a_sentence_without_a_score_is_no_score(make_service: MakeService) -> None:
    client = TestClient(make_app(make_service(text=True)))  # its language model never learned a sentence
    assert "score" in detail(client.post("/score", files={"image": IMAGE}), 422)


# --- requests as a server sees them: a body in pieces, and clients that leave --------------------------------------


async def post(app: Any, receive: Callable[[], Awaitable[Message]], headers: dict[str, str]) -> list[Message]:
    """What the application sends for a request to /score."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/score",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    return sent


def test_a_length_that_is_too_large_is_refused_unread(make_service: MakeService) -> None:
    async def receive() -> Message:
        raise AssertionError("the body is not to be read")

    body, headers = multipart({"image": bytes(20_000)})
    app = make_app(make_service(max_upload=0.01))
    sent = asyncio.run(post(app, receive, {**headers, "Content-Length": str(len(body))}))
    assert sent[0]["status"] == 413
    assert b"above the limit of 0.01 MiB" in sent[1]["body"]


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(make_service: MakeService) -> None:
    pieces = 0
    body, headers = multipart({"image": bytes(2000)})

    async def receive() -> Message:
        nonlocal pieces
        pieces += 1
        return {"type": "http.request", "body": body[:-20] if pieces == 1 else bytes(2000), "more_body": True}

    sent = asyncio.run(post(make_app(make_service(max_upload=0.01)), receive, headers))
    assert (sent[0]["status"], pieces) == (413, 6)  # 10,485 bytes are let in


def test_a_body_that_does_not_come_is_not_waited_for(make_service: MakeService) -> None:
    body, headers = multipart({"image": IMAGE})
    begun = False

    async def receive() -> Message:
        nonlocal begun
        if begun:
            await asyncio.Event().wait()
        begun = True
        return {"type": "http.request", "body": body[:50], "more_body": True}

    service = make_service(timeout=0.2)
    sent = asyncio.run(post(make_app(service), receive, headers))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert service.in_house == 0


@pytest.fixture
def gated(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Service, Gate]]:
    """Call it with limits for a service whose model can be stopped."""

    def make(**limits: float) -> tuple[Service, Gate]:
        gates: list[Gate] = []

        def caller(*given: Any, **options: Any) -> Gate:
            gates.append(Gate(*given, **options))
            return gates[0]

        monkeypatch.setattr(service_module, "Caller", caller)
        service = make_service(**limits)
        gates[0].begun.acquire()  # the first call is the service's own
        return service, gates[0]

    return make


def test_a_score_that_takes_too_long_is_not_waited_for(gated: Callable[..., tuple[Service, Gate]]) -> None:
    service, gate = gated(timeout=1)
    client = TestClient(make_app(service))
    gate.gate.clear()
    assert "not scored within 1 seconds" in detail(client.post("/score", files={"image": IMAGE}), 504)
    assert service.in_house == 0
    gate.gate.set()
    assert client.post("/score", files={"image": IMAGE}).status_code == 200


def test_a_client_that_leaves_is_not_scored(gated: Callable[..., tuple[Service, Gate]]) -> None:
    service, gate = gated()
    body, headers = multipart({"image": IMAGE})
    gate.gate.clear()

    async def leave_one_of_two() -> None:
        left = asyncio.Event()

        def client(leaves: bool) -> Callable[[], Awaitable[Message]]:
            said = False

            async def receive() -> Message:
                nonlocal said
                if said:
                    await (left.wait() if leaves else asyncio.Event().wait())
                    return {"type": "http.disconnect"}
                said = True
                return {"type": "http.request", "body": body}

            return receive

        app = make_app(service)
        stays = asyncio.ensure_future(post(app, client(leaves=False), headers))
        await asyncio.to_thread(gate.begun.acquire)  # the model has it
        leaves = asyncio.ensure_future(post(app, client(leaves=True), headers))
        while service.in_house < 2:
            await asyncio.sleep(0.01)
        left.set()
        await leaves
        while service.in_house > 1:  # its image may still be in the decoder's hands
            await asyncio.sleep(0.01)
        gate.gate.set()
        assert (await stays)[0]["status"] == 200

    asyncio.run(leave_one_of_two())
    service.close()
    assert [len(call) for call in gate.calls] == [1, 1]  # the service's own, and the one that stayed


def test_one_more_than_the_house_holds_is_told_to_come_again(
    gated: Callable[..., tuple[Service, Gate]],
) -> None:
    service, gate = gated(queue=2)
    app = make_app(service)
    gate.gate.clear()
    found: list[Any] = []

    def ask() -> None:
        found.append(TestClient(app).post("/score", files={"image": IMAGE}))

    inside = [threading.Thread(target=ask) for _ in range(2)]
    for thread in inside:
        thread.start()
    while service.in_house < 2:
        time.sleep(0.01)
    answer = TestClient(app).post("/score", files={"image": IMAGE})
    assert detail(answer, 429) == "2 requests are being answered; try again"
    assert int(answer.headers["Retry-After"]) >= 1
    gate.gate.set()
    for thread in inside:
        thread.join()
    assert [each.status_code for each in found] == [200, 200]


def test_a_service_that_is_being_stopped_says_so(service: Service, client: TestClient) -> None:
    assert client.get("/health").json() == {
        "status": "ready",
        "model": service.model.name,
        "version": __version__,
    }
    service.drain()
    answer = client.post("/score", files={"image": IMAGE})
    assert detail(answer, 503) == "the service is being stopped"
    assert answer.headers["Retry-After"]
    assert answer.headers["Connection"] == "close"
    health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "draining")


def test_a_failure_is_500_and_the_next_request_is_answered(
    gated: Callable[..., tuple[Service, Gate]],
) -> None:
    service, gate = gated()
    client = TestClient(make_app(service), raise_server_exceptions=False)
    gate.failure = RuntimeError("the device is gone")
    assert (
        detail(client.post("/score", files={"image": IMAGE}), 500) == "the service failed; its log says how"
    )
    gate.failure = None
    assert client.post("/score", files={"image": IMAGE}).status_code == 200
    assert service.in_house == 0


def test_a_token_is_asked_for_before_a_body_is_read(service: Service) -> None:
    async def receive() -> Message:
        raise AssertionError("the body is not to be read")

    app = make_app(service, token="secret")
    body, headers = multipart({"image": IMAGE})
    for given in ({}, {"Authorization": "Bearer secre"}, {"Authorization": "Basic secret"}):
        sent = asyncio.run(post(app, receive, headers | given))
        assert sent[0]["status"] == 401
        assert (b"www-authenticate", b"Bearer") in sent[0]["headers"]
    client = TestClient(app)
    right = {"Authorization": "Bearer secret"}
    assert client.post("/score", content=body, headers=headers | right).status_code == 200
    assert (client.get("/metrics").status_code, client.get("/metrics", headers=right).status_code) == (
        401,
        200,
    )
    assert client.get("/health").status_code == 200


def test_metrics_count_answers_and_images(client: TestClient) -> None:
    for image in (IMAGE, IMAGE, b""):
        client.post("/score", files={"image": image})
    lines = client.get("/metrics").text.splitlines()
    assert 'harmonyiqa_answers_total{status="200"} 2.0' in lines
    assert 'harmonyiqa_answers_total{status="422"} 1.0' in lines
    assert "harmonyiqa_call_images_sum 2.0" in lines
    assert "harmonyiqa_request_seconds_count 3.0" in lines
    assert "harmonyiqa_in_house 0.0" in lines


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_loads_scripts_from_elsewhere(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
