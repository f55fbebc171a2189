"""Whatever fits, or does not fit, the description of the interface: the server never fails."""

import shutil

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from harmonyiqa.rate.secret_links import form_token
from harmonyiqa.rate.settings import StudySettings
from harmonyiqa.rate.study import open_study
from harmonyiqa.rate.web import make_app
from tests.rate.conftest import admin_secret_of, secret_of


@pytest.fixture(scope="module")
def interface(plain_study, tmp_path_factory):
    """The description, and headers of rater, organizer and stranger."""
    folder = tmp_path_factory.mktemp("schema") / "study"
    shutil.copytree(plain_study, folder)
    store, _ = open_study(folder)
    app = make_app(store, StudySettings(break_minutes=0))
    described = app.openapi()
    app.openapi_url = "/openapi.json"
    app.setup()
    rater, admin, study = secret_of(store), admin_secret_of(store), store.facts.study
    cookies = f"rater_{study}={rater}; admin_{study}={admin}"
    tokens = {"rater": form_token(rater), "admin": form_token(admin)}
    assert {"/", "/api/vote", "/media/{media_id}", "/admin"} <= set(described["paths"])
    yield schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"}), cookies, tokens
    store.close()


schema = schemathesis.pytest.from_fixture("interface_schema")


@pytest.fixture(scope="module")
def interface_schema(interface):
    return interface[0]


@schema.parametrize()
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_no_request_makes_the_server_fail(case, interface) -> None:
    _, cookies, tokens = interface
    token = tokens["admin" if case.path.startswith("/admin") else "rater"]
    known = {"Host": "127.0.0.1", "Cookie": cookies, "X-Form-Token": token}
    case.call_and_validate(headers=known, checks=[not_a_server_error])
    case.call_and_validate(headers={"Host": "127.0.0.1"}, checks=[not_a_server_error])
