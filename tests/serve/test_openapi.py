"""The OpenAPI document is valid, has every route and every struct, and describes what is sent."""

import inspect

import jsonschema
import msgspec
import openapi_spec_validator
import pytest

from conkd_jax.serve import schema
from conkd_jax.serve.openapi import openapi_document
from conkd_jax.serve.routes import ROUTES
from tests.fixtures.serving import HI


@pytest.fixture(scope="module")
def document():
    return openapi_document(ROUTES)


def test_it_is_an_openapi_document(document):
    openapi_spec_validator.validate(document)


def test_every_route_is_in_it(document):
    described = {
        (method.upper(), path) for path, each in document["paths"].items() for method in each
    }
    assert described == {(route.method, route.path.replace(":path}", "}")) for route in ROUTES}
    names = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(names) == len(set(names))


def test_every_struct_is_in_it(document):
    bases = (schema.Request, schema.Answer, schema.AskRequest)
    structs = {
        name
        for name, each in inspect.getmembers(schema, inspect.isclass)
        if issubclass(each, msgspec.Struct) and each not in bases
    }
    assert structs == set(document["components"]["schemas"])


def test_answers_are_as_described(site, document):
    assert site.client.get("/openapi.json").json() == document
    text = {"text": "I like funny movies."}
    for name, answer in (
        ("SystemList", site.client.get("/v1/systems")),
        ("Reading", site.client.post("/v1/read", json=text)),
        ("Response", site.client.post("/v1/respond", json={"history": HI, "explain": True})),
        ("MovieList", site.client.get("/v1/items", params={"query": "a"})),
        ("Health", site.client.get("/health")),
        ("Problems", site.client.get("/v1/arena/ratings")),
    ):
        described = {**document, "$ref": f"#/components/schemas/{name}"}
        jsonschema.validate(answer.json(), described)
