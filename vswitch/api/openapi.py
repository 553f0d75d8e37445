"""The document of an API (OpenAPI 3.1), generated from its table of routes.

A type becomes its JSON Schema (2020-12): an attrs class an object, whose fields without a default
are required of who asks. Answers have all fields; later versions may have more.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import NoneType
from typing import Any, get_args, get_origin

import attrs

from vswitch.api.roles import Role
from vswitch.api.table import Route, Table
from vswitch.api.values import inner_types
from vswitch.errors import Problem
from vswitch.version import VERSION

_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}
_REFUSALS = {
    "400": "the request is wrong",
    "401": "no token, or none that is known",
    "403": "the role of the caller is a lesser one, or X-CSRF-Token is missing",
    "404": "what it is about is not there",
    "409": "that cannot be done now",
    "412": "it has changed since the ETag in If-Match",
    "413": "the body is too large",
    "429": "too many wrong tokens from this address",
    "503": "busy, or not yet there",
    "504": "it did not happen in time",
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {"type": "string", "description": "a sentence, in English"},
        "code": {"type": "integer", "description": "the exit code that a command would end with"},
        "problem": {"type": "string", "description": "a word for it", "enum": list(Problem)},
        "about": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["error", "code", "problem", "about"],
}


@lru_cache(maxsize=2)
def document(table: Table) -> dict[str, Any]:
    """Of all rows. Not to be changed: it takes 5 ms, and is made once."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, dict[str, Any]] = {}
    for row in table.rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, schemas, table)
    refusals = {
        f"E{status}": {"description": text, "content": _json({"$ref": _ref("Error")})}
        for status, text in _REFUSALS.items()
    }
    schemes = {
        "token": {"type": "http", "scheme": "bearer", "description": "vswitch token create"},
        "session": {"type": "apiKey", "in": "cookie", "name": "vswitch_session"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "vswitch", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas, "responses": refusals, "securitySchemes": schemes},
        "security": [{"token": []}, {"session": []}],
    }


def schema_of(kind: Any, schemas: dict[str, Any], *, asked: bool = False) -> dict[str, Any]:
    """The schema of a type; those of its classes go into `schemas`. `asked` is what a client says,
    which has nothing that is not in the schema.
    """
    if kind is Any or kind is object:
        return {}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    origin, inner = get_origin(kind), get_args(kind)
    if origin is list:
        return {"type": "array", "items": schema_of(inner[0], schemas, asked=asked)}
    if origin is dict:
        return {
            "type": "object",
            "additionalProperties": schema_of(inner[1], schemas, asked=asked),
        }
    if attrs.has(kind):
        if kind.__name__ not in schemas:
            schemas[kind.__name__] = {}  # it may be in itself
            schemas[kind.__name__] = _object(kind, schemas, asked)
        return {"$ref": _ref(kind.__name__)}
    return {"anyOf": [schema_of(each, schemas, asked=asked) for each in inner_types(kind)]}


def _object(kind: Any, schemas: dict[str, Any], asked: bool) -> dict[str, Any]:
    fields = attrs.fields(attrs.resolve_types(kind))
    said: dict[str, Any] = {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "properties": {field.name: schema_of(field.type, schemas, asked=asked) for field in fields},
        "required": [field.name for field in fields if not asked or field.default is attrs.NOTHING],
    }
    if asked:
        said["additionalProperties"] = False
    return said


def _operation(row: Route, schemas: dict[str, Any], table: Table) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", row.path)
    ]
    if row.query is not None:
        parameters += [
            {
                "name": field.name,
                "in": "query",
                "required": field.default is attrs.NOTHING,
                "schema": _without_null(field.type, schemas),
            }
            for field in attrs.fields(attrs.resolve_types(row.query))
        ]
    if table.networks:
        parameters.append(
            {"name": "network", "in": "query", "required": False, "schema": {"type": "string"}}
        )
    answers: dict[str, Any] = {}
    content: dict[str, Any] = {}
    if row.answer is not None:
        content |= _json(schema_of(row.answer, schemas))
    if row.media is not None:
        content[row.media] = {"schema": {"type": "string"}}
    if content:
        answers["200"] = {"description": "done", "content": content}
    else:
        answers["204"] = {"description": "done"}
    answers |= {status: {"$ref": f"#/components/responses/E{status}"} for status in _REFUSALS}
    said: dict[str, Any] = {
        "operationId": row.operation,
        "summary": row.summary,
        "x-role": row.role.text,
        "parameters": parameters,
        "responses": answers,
    }
    if row.keeps:
        said["x-role-save"] = Role.ADMIN.text
    if row.role is Role.OPEN:
        said["security"] = []
    if row.body is not None:
        body = schema_of(row.body, schemas, asked=True)
        said["requestBody"] = {"required": True, "content": _json(body)}
    return said


def _without_null(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    found = [each for each in inner_types(kind) if each is not NoneType]
    return schema_of(found[0], schemas, asked=True)


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"
