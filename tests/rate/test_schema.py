"""Whatever fits, or does not fit, the description of the interface: the server never fails."""

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation

from harmonyiqa.rate.secret_links import form_token
from harmonyiqa.rate.settings import StudySettings
from harmonyiqa.rate.web import make_app
from tests.rate.conftest import admin_secret_of, secret_of


def test_no_request_makes_the_server_fail(make_study) -> None:
    store = make_study()
    app = make_app(store, StudySettings(break_minutes=0))
    app.openapi_url = "/openapi.json"  # not there in a real study
    app.setup()
    host = {"Host": "127.0.0.1"}
    rater, admin, study = secret_of(store), admin_secret_of(store), store.facts.study
    cookies = {"Cookie": f"rater_{study}={rater}; admin_{study}={admin}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=host)
    paths = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        paths.add(operation.path)
        secret = admin if operation.path.startswith("/admin") else rater
        known = host | cookies | {"X-Form-Token": form_token(secret)}
        _try(operation, [known, host])  # somebody who belongs, and a stranger
    expected = {
        "/",
        "/join/{secret}",
        "/media/{media_id}",
        "/api/state",
        "/api/consent",
        "/api/session",
        "/api/pause",
    }
    assert paths == expected | {
        "/api/vote",
        "/admin",
        "/admin/join/{secret}",
        "/admin/api/pause",
        "/admin/tables.zip",
    }


def _try(operation: APIOperation, kinds: list[dict[str, str]]) -> None:
    @given(case=operation.as_strategy())
    @settings(max_examples=15, database=None, suppress_health_check=list(HealthCheck))
    def every(case: schemathesis.Case) -> None:
        for headers in kinds:
            case.call_and_validate(headers=headers, checks=[not_a_server_error])

    every()
