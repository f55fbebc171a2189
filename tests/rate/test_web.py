"""Nobody in who does not belong, and nothing out that should stay."""

import hmac
import io
import logging
import sqlite3
import zipfile
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from harmonyiqa.rate import web
from harmonyiqa.rate.protection import LARGEST_BODY
from harmonyiqa.rate.secret_links import form_token, new_secret
from harmonyiqa.rate.settings import StudySettings
from harmonyiqa.rate.store import Store
from tests.rate.conftest import SCREEN, admin_secret_of, secret_of

VOTE = {"position": 1, "revision": 0, "value": 4, "milliseconds": 900}


@pytest.fixture
def store(make_study) -> Store:
    return make_study()


@pytest.fixture
def client(store) -> Iterator[Callable[..., TestClient]]:
    """Call it for a browser of rater 1, 2, of the organizer ("admin"), or of a stranger (None)."""
    app = web.make_app(store, StudySettings(title="<script>alert(1)</script>"))

    def make(who: int | str | None = 1) -> TestClient:
        browser = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        if who == "admin":
            secret, link = admin_secret_of(store), "/admin/join/"
        else:
            secret, link = (secret_of(store, who) if isinstance(who, int) else ""), "/join/"
        if who is not None:
            assert browser.get(link + secret).status_code == 200
            browser.headers["X-Form-Token"] = form_token(secret)
        return browser

    return make


def begin(browser: TestClient) -> TestClient:
    assert browser.post("/api/consent").status_code == 200
    assert browser.post("/api/session", json=SCREEN).status_code == 200
    return browser


def votes(store: Store) -> int:
    return len(store.rows("SELECT * FROM vote"))


def test_a_rater_votes(client, store) -> None:
    rater = begin(client())
    receipt = rater.post("/api/vote", json=VOTE).json()
    assert (receipt["saved"], receipt["repeated"], receipt["situation"]["item"]["position"]) == (4, False, 2)
    assert rater.post("/api/vote", json=VOTE).json()["repeated"]
    assert votes(store) == 1
    media = receipt["situation"]["item"]["pictures"][0]["media"]
    image = rater.get(f"/media/{media}")
    assert (image.status_code, image.headers["content-type"]) == (200, "image/png")
    assert "immutable" in image.headers["cache-control"]


def test_wrong_secrets_open_nothing(client, store) -> None:
    stranger = client(None)
    for secret in ("", "x", "..", "%2e%2e%2f", "é", "%00", "a" * 4000):
        assert stranger.get(f"/join/{secret}").status_code in (401, 404), secret
        assert stranger.get(f"/admin/join/{secret}").status_code in (401, 404), secret
    stranger.cookies.set(f"rater_{store.facts.study}", "nobodys")
    assert stranger.get("/").status_code == 401


def test_strangers_see_nothing(client, store) -> None:
    stranger = client(None)
    for path in ("/", "/api/state", "/admin", "/admin/tables.zip", f"/media/{next(iter(store.media))}"):
        assert stranger.get(path).status_code == 401, path


def test_a_rater_is_no_organizer_and_no_other_rater(client, store) -> None:
    rater = client(1)
    assert rater.get("/admin").status_code == 401
    assert rater.post("/admin/api/pause", json={"paused": True}).status_code == 401
    assert rater.get(f"/admin/join/{secret_of(store)}").status_code == 401
    begin(rater).post("/api/vote", json=VOTE)
    assert [row["rater"] for row in store.rows("SELECT rater FROM vote")] == [1]
    organizer = client("admin")
    assert organizer.get("/api/state").status_code == 401


def test_a_secret_is_compared_in_constant_time(client, store, monkeypatch) -> None:
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(
        "harmonyiqa.rate.secret_links.hmac.compare_digest",
        lambda a, b: compared.append((len(a), len(b))) or real(a, b),
    )
    client(1)
    assert compared[:2] == [(32, 32), (32, 32)], "every rater's hash is compared, found or not"


def test_a_change_without_the_pages_token_is_refused(client, store) -> None:
    rater = begin(client())
    del rater.headers["X-Form-Token"]
    changes = {"consent": None, "session": SCREEN, "pause": {"paused": True}, "vote": VOTE}
    for token in (None, "", "0" * 64, form_token(new_secret()), "ü"):
        headers = {} if token is None else {"X-Form-Token": token.encode()}
        for name, body in changes.items():
            assert rater.post(f"/api/{name}", json=body, headers=headers).status_code == 403, (token, name)
    assert votes(store) == 0


def test_the_organizers_changes_need_a_token_too(client, store) -> None:
    organizer = client("admin")
    del organizer.headers["X-Form-Token"]
    assert organizer.post("/admin/api/pause", json={"paused": True}).status_code == 403
    assert not store.is_closed()


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(client, store) -> None:
    answer = client(None).get(f"/join/{secret_of(store)}", follow_redirects=False)
    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 303
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie  # loopback; see the next test
    assert store.facts.study in cookie, "two studies on one machine do not mix"


def test_over_https_the_cookie_stays_there(store) -> None:
    app = web.make_app(store, StudySettings(address="https://study.example.org"))
    browser = TestClient(app, base_url="https://study.example.org")
    answer = browser.get(f"/join/{secret_of(store)}", follow_redirects=False)
    assert "secure" in answer.headers["set-cookie"].lower()


def test_forged_image_ids_and_traversal_find_nothing(client) -> None:
    rater = client()
    up = ("../study.sqlite", "..%2fstudy.sqlite", "%2e%2e/settings.yaml", "....//settings.yaml", "%00")
    for media in ("0" * 32, "1", *up):
        answer = rater.get(f"/media/{media}")
        assert answer.status_code == 404, media
        assert b"SQLite" not in answer.content
    for path in ("../web.py", "..%2fweb.py", "%2e%2e/%2e%2e/cli.py", ""):
        assert rater.get(f"/static/{path}").status_code == 404, path


def test_a_body_of_another_shape_is_refused(client, store) -> None:
    rater = begin(client())
    odd = [
        {"value": "4"},
        {"value": 4.0},
        {"value": True},
        {"value": 10},
        {"position": 0},
        {"position": 10**30},
    ]
    odd += [{"milliseconds": -1}, {"image": "../x"}]
    for body in ({}, [VOTE], None, *(VOTE | change for change in odd)):
        assert rater.post("/api/vote", json=body).status_code == 422, body
    assert votes(store) == 0


def test_a_vote_that_is_not_due_is_refused(client, store) -> None:
    rater = begin(client())
    for change in ({"position": 2}, {"position": 99}, {"value": 6}, {"revision": 1}):
        assert rater.post("/api/vote", json=VOTE | change).status_code == 409, change
    assert votes(store) == 0


def test_long_bodies_are_cut_off_whatever_they_claim(client, store) -> None:
    rater = begin(client())
    assert rater.post("/api/vote", content=b" " * (LARGEST_BODY + 1)).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 1024

    assert rater.post("/api/vote", content=chunks()).status_code == 413
    assert client(None).post("/api/vote", content=b" " * 10**6).status_code == 413
    assert votes(store) == 0


def test_guessing_is_slowed_down_and_raters_are_not(client) -> None:
    rater, stranger = client(1), client(None)
    statuses = [stranger.get(f"/join/{new_secret()}").status_code for _ in range(40)]
    assert statuses[:20] == [401] * 20
    assert statuses[-1] == 429
    assert rater.get("/api/state").status_code == 200


def test_one_rater_cannot_flood_the_study(store, monkeypatch) -> None:
    monkeypatch.setattr("harmonyiqa.rate.door._RATER", "5/minute")
    app = web.make_app(store, StudySettings())
    one, two = (TestClient(app, base_url="http://127.0.0.1:8000") for _ in range(2))
    one.cookies.set(f"rater_{store.facts.study}", secret_of(store, 1))
    two.cookies.set(f"rater_{store.facts.study}", secret_of(store, 2))
    answers = [one.get("/api/state") for _ in range(12)]
    assert answers[4].status_code == 200
    assert (answers[-1].status_code, answers[-1].headers["retry-after"]) == (429, "1")
    assert two.get("/api/state").status_code == 200


def test_headers_keep_others_out(client) -> None:
    rater = client()
    for path in ("/", "/api/state", "/static/rate.js", "/nothing", "/admin"):
        headers = rater.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("who", [1, "admin"])
def test_every_text_is_escaped_and_nothing_is_asked_of_others(who, client) -> None:
    html = client(who).get("/" if who == 1 else "/admin").text
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "http" not in html.replace("http-equiv", "")
    assert "style=" not in html


def test_another_host_name_is_refused(client) -> None:
    assert client().get("/", headers={"Host": "evil.example"}).status_code == 400


def test_pages_of_third_parties_are_not_there(client) -> None:
    assert [client().get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")] == [404] * 3


def test_refusals_are_logged_without_secrets(client, store, caplog) -> None:
    guess = new_secret()
    with caplog.at_level(logging.WARNING, "harmonyiqa.rate"):
        client(None).get(f"/join/{guess}")
        client(None).get("/admin/join/line%0abreak")
        rater = begin(client(2))
        rater.get("/media/" + "0" * 32)
        rater.get("/line%0abreak")
        rater.post("/api/vote", json=VOTE | {"position": 9})
        rater.post("/api/vote", content=b" " * 99_999)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("harmonyiqa.rate")]
    assert len(said) == 6
    assert "401 GET '/join/...' from testclient (a stranger)" in said[0]
    assert "404" in said[2]
    assert "(r02)" in said[2]
    assert "409" in said[4]
    assert "413" in said[5]
    assert not any(guess in line or secret_of(store, 2) in line or "\n" in line for line in said)


def test_a_full_disk_is_told_and_not_acknowledged(client, store, monkeypatch) -> None:
    rater = begin(client())

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("harmonyiqa.rate.course.Course.vote", fail)
    answer = rater.post("/api/vote", json=VOTE)
    assert answer.status_code == 503
    assert "nothing was saved" in answer.json()["detail"]


def test_the_organizer_sees_pauses_and_exports(client, store) -> None:
    rater, organizer = begin(client()), client("admin")
    rater.post("/api/vote", json=VOTE)
    page = organizer.get("/admin").text
    assert "r01" in page
    assert "1 / 24" in page
    assert organizer.post("/admin/api/pause", json={"paused": True}).json() == {"paused": True}
    assert rater.post("/api/vote", json=VOTE | {"position": 2}).status_code == 409
    assert "paused by its organizers" in rater.get("/").text
    organizer.post("/admin/api/pause", json={"paused": False})
    with zipfile.ZipFile(io.BytesIO(organizer.get("/admin/tables.zip").content)) as tables:
        assert tables.namelist() == ["ratings.csv", "ratings_raters.csv"]
        assert tables.read("ratings.csv").startswith(b"rater,image,rating,session,time,order")
