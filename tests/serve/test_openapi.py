"""The OpenAPI document is valid, and has every route and every struct."""

import inspect

import msgspec
import openapi_spec_validator
import pytest

from conkd_jax.serve import schema
from conkd_jax.serve.openapi import openapi_document
from conkd_jax.serve.routes import ROUTES


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
