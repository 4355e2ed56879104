"""OpenAPI 3.1, generated from the routes and the types that the handlers read and write.

Nothing is written by hand twice: paths, parameters, bodies and answers are the values that the
server registers, and schemas are made from the same structs that decode the bodies. Tests fire
generated requests at the server by this description.

Source: https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streams.api.problems import CONTENT_TYPE, KINDS, Problem
from streams.api.routes import MERGE_PATCH, Parameter, Reply, Route

REF = "#/components/schemas/{name}"
ALWAYS = ("malformed", "too_large", "too_many_requests", "unavailable")
"""Kinds of problems that any route may answer."""
WITH_BODY = ("unsupported_media_type", "invalid")
WITH_PARAMETERS = ("invalid", "not_found")
WITH_KEY = ("unauthenticated", "forbidden")


def document(routes: Iterable[Route], version: str, url: str) -> dict[str, Any]:
    """The description as JSON-ready values."""
    shown = [route for route in routes if not route.is_hidden]
    types = _types(shown)
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = {id(found): schema for found, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Flowstate",
            "version": version,
            "summary": "Events in, notifications out, and the reasons.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url or "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of `flowstate keys create`, fsk_ID_SECRET.",
                }
            },
        },
    }


def _types(routes: Sequence[Route]) -> list[Any]:
    """Every type that is mentioned, once by identity."""
    found: list[Any] = [Problem]
    for route in routes:
        found += [parameter.schema for parameter in route.parameters]
        found += [route.body] if route.body is not None else []
        found += [one for reply in route.replies.values() for one in _schemas_of(reply)]
    return list({id(one): one for one in found}.values())


def _schemas_of(reply: Reply) -> tuple[Any, ...]:
    if reply.schema is None:
        return ()
    return reply.schema if isinstance(reply.schema, tuple) else (reply.schema,)


def _operation(route: Route, schemas: dict[int, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.doc,
        "tags": [route.tag] if route.tag else [],
        "security": [{"key": []}] if route.scope else [],
        "responses": _responses(route, schemas),
    }
    if route.scope:
        operation["description"] = f"Needs a key with the scope `{route.scope}`."
    if route.parameters:
        operation["parameters"] = [_parameter(one, schemas) for one in route.parameters]
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": {kind: {"schema": _body(route, kind, schemas)} for kind in route.body_types},
        }
    return operation


def _body(route: Route, kind: str, schemas: dict[int, Any]) -> Any:
    if kind == MERGE_PATCH:
        return {"type": "object"}
    return schemas[id(route.body)]


def _parameter(parameter: Parameter, schemas: dict[int, Any]) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.doc,
        "required": parameter.required,
        "schema": schemas[id(parameter.schema)],
    }


def _responses(route: Route, schemas: dict[int, Any]) -> dict[str, Any]:
    found = {str(status): _reply(one, schemas) for status, one in sorted(route.replies.items())}
    kinds = [*ALWAYS, *route.refusals]
    kinds += WITH_BODY if route.body is not None else ()
    kinds += WITH_PARAMETERS if route.parameters else ()
    kinds += WITH_KEY if route.scope is not None else ()
    for kind in dict.fromkeys(kinds):
        about = KINDS[kind]
        reply = found.setdefault(str(about.status), {"description": about.title, "content": {}})
        reply.setdefault("content", {})[CONTENT_TYPE] = {"schema": schemas[id(Problem)]}
        if about.status in (429, 503):
            reply.setdefault("headers", {})["Retry-After"] = {
                "description": "Seconds after which to ask again.",
                "schema": {"type": "integer"},
            }
    return dict(sorted(found.items()))


def _reply(reply: Reply, schemas: dict[int, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": reply.doc}
    if reply.schema is not None:
        several = [schemas[id(one)] for one in _schemas_of(reply)]
        schema = several[0] if len(several) == 1 else {"anyOf": several}
        found["content"] = {reply.content_type: {"schema": schema}}
    elif reply.content_type != "application/json":
        found["content"] = {reply.content_type: {"schema": {"type": "string"}}}
    if reply.headers:
        found["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in reply.headers.items()
        }
    return found
