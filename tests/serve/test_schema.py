"""Whatever fits, or does not fit, the description of the interface: only answers that it declares."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import media_types

from harmonyiqa.serve.service import Service
from harmonyiqa.serve.web import make_app
from tests.serve.conftest import picture

TOKEN = "a-token"
ALL = {"POST /score", "GET /health", "GET /metrics"}


@pytest.fixture
def images() -> Iterator[None]:
    """What is generated for a file of an image type is an image."""
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        files = [picture(seed, kind) for seed in range(3)]
        schemathesis.openapi.media_type(f"image/{kind.lower()}", st.sampled_from(files))
    yield
    media_types.unregister_all()


def answers(
    service: Service, mode: GenerationMode, labels: set[str], token: str | None
) -> set[tuple[str, int]]:
    """Statuses by operation; all of schemathesis' checks hold: declared status, type and shape, what fits is taken."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(service, token))
    operations = {found.ok().label: found.ok() for found in schema.get_all_operations()}
    assert set(operations) == ALL
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    found = set()
    for label in labels:

        @given(case=operations[label].as_strategy(generation_mode=mode))
        @settings(max_examples=15, database=None, suppress_health_check=list(HealthCheck))
        def every(case: schemathesis.Case) -> None:
            answer = case.call_and_validate(headers=headers)
            found.add((case.operation.label, answer.status_code))

        every()
    return found


@pytest.mark.usefixtures("images")
def test_what_fits_the_description_is_answered(service: Service) -> None:
    assert answers(service, GenerationMode.POSITIVE, ALL, TOKEN) == {(label, 200) for label in ALL}


def test_what_does_not_fit_is_refused(service: Service) -> None:
    # without a token: a header that is wrong in a case would be put right here
    found = answers(service, GenerationMode.NEGATIVE, {"POST /score"}, None)
    assert ("POST /score", 422) in found
    assert all(400 <= status < 500 for _, status in found)


def test_every_answer_to_score_is_described(service: Service) -> None:
    described = make_app(service, TOKEN).openapi()
    score = described["paths"]["/score"]["post"]
    statuses = {200, 400, 401, 408, 413, 415, 422, 429, 500, 503, 504}
    assert set(score["responses"]) == {str(status) for status in statuses}
    assert score["security"] == [{"HTTPBearer": []}]
    assert {s for s in statuses if "headers" in score["responses"][str(s)]} == {429, 503}
    assert set(described["paths"]["/health"]["get"]["responses"]) == {"200", "503"}
    assert set(described["paths"]["/metrics"]["get"]["responses"]) == {"200", "401"}
    assert described["paths"]["/health"]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ] == {"$ref": "#/components/schemas/Health"}
    open_to_all = make_app(service).openapi()
    assert "401" not in open_to_all["paths"]["/score"]["post"]["responses"]
    assert "components" not in open_to_all or "securitySchemes" not in open_to_all["components"]
