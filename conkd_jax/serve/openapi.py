"""The OpenAPI document of the server, made from its routes and the structs that validate.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from conkd_jax.serve import limits, schema
from conkd_jax.serve.routes import Parameter, Route

_REFERENCE = "#/components/schemas/{name}"
_TYPES = {str: "string", int: "integer"}


def openapi_document(routes: Sequence[Route]) -> dict[str, Any]:
    """The document of these routes."""
    kinds = [schema.Problems]
    for route in routes:
        found = (route.request, route.answer, *route.events.values())
        kinds += [kind for kind in found if kind is not None and kind not in kinds]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    of_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, of_kind)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "conkd-serve",
            "version": "1",
            "description": "Conversational recommenders that conkd_jax trained.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, of_kind: dict[type, dict]) -> dict[str, Any]:
    summary, _, description = (inspect.getdoc(route.handler) or "").partition("\n\n")
    content: dict[str, Any] = {"schema": {"type": "string"}}
    if route.answer is not None:
        content = {"schema": of_kind[route.answer]}
    elif route.media_type == "application/json":
        content = {"schema": {"type": "object"}}
    if route.events:  # OpenAPI has no schema for the data of events before version 3.2
        content["x-events"] = {name: of_kind[kind] for name, kind in route.events.items()}
    problem = {"application/json": {"schema": of_kind[schema.Problems]}}
    of_simulator = "_of" if "{system" in route.path else ""
    operation: dict[str, Any] = {
        "operationId": f"{route.handler.__name__}{of_simulator}",
        "summary": " ".join(summary.split()),
        "responses": {
            "200": {"description": "The answer.", "content": {route.media_type: content}},
            "default": {"description": "What is wrong.", "content": problem},
        },
    }
    if description:
        operation["description"] = " ".join(description.split())
    if route.parameters:
        operation["parameters"] = [_parameter(one) for one in route.parameters]
    if route.request is not None:
        body = {"application/json": {"schema": of_kind[route.request]}}
        operation["requestBody"] = {"required": True, "content": body}
    is_open = route.method == "GET" and route.path in limits.OPEN_PATHS
    operation["security"] = [{}] if is_open else [{}, {"token": []}]
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": _TYPES[parameter.type]}
    if parameter.default is not None:
        kind["default"] = parameter.default
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.text,
        "schema": kind,
    }
