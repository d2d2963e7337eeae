"""OpenAPI 3.1, made from the table of calls and the pydantic schemas, so that it can't differ from them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bedside import __version__
from bedside.api import schemas as s
from bedside.api.calls import Call
from bedside.api.problems import STATUS
from bedside.core.errors import ERRORS
from bedside.identity.roles import ANYONE

OPENAPI_PATH = "/api/openapi.json"
_REF = "#/components/schemas/{model}"
_ALWAYS = ("INTERNAL",)
_SIGNED_IN = ("TOKEN_MISSING", "TOKEN_EXPIRED", "TOKEN_INVALID", "PASSWORD_CHANGE_REQUIRED", "FORBIDDEN")
_WITH_BODY = ("BAD_JSON", "UNKNOWN_FIELD", "BAD_FIELD", "BODY_TOO_LARGE")
_RECORDED = ("AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE")


def describe(calls: Sequence[Call]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path.replace(":path}", "}"), {})[call.method.lower()] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bedside",
            "version": __version__,
            "description": "Answers are {success, data} or {success, error}.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(calls),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def errors_of(call: Call) -> tuple[str, ...]:
    """Every code this call can answer with."""
    signed_in = call.action is not None and call.action not in ANYONE
    return (
        *call.errors,
        *(_SIGNED_IN if signed_in else ()),
        *(_RECORDED if call.action else ()),
        *(_WITH_BODY if call.body else ()),
        *_ALWAYS,
    )


def _operation(call: Call) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{call.method.lower()}{call.path}").strip("_"),
        "summary": call.summary,
        "parameters": _parameters(call),
        "responses": {"200": _good(call), **_bad(call)},
        "security": [] if call.action is None or call.action in ANYONE else [{"bearer": []}],
    }
    if call.action:
        operation["x-bedside-action"] = call.action
    if call.body:
        content: dict[str, Any] = {"schema": _ref(call.body)}
        if call.example:
            content["example"] = dict(call.example)
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _parameters(call: Call) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)", call.path)
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    if call.events:
        reference = {"type": "string", "pattern": "^[A-Za-z0-9._:/-]{1,64}$"}
        about = "MRN or FHIR reference of the patient; goes into the audit record and nowhere else."
        found.append({"name": "X-Patient-Reference", "in": "header", "schema": reference, "description": about})
    return found


def _good(call: Call) -> dict[str, Any]:
    if call.answer is None:
        return {"description": call.summary, "content": {"application/json": {"schema": {"type": "object"}}}}
    data = {
        "type": "object",
        "properties": {"success": {"const": True}, "data": _data(call.answer)},
        "required": ["success", "data"],
        "additionalProperties": False,
    }
    content: dict[str, Any] = {"application/json": {"schema": data}}
    if call.events:
        names = ", ".join(f"{name}: {model.__name__}" for name, model in call.events.items())
        stream = {
            "type": "string",
            "description": f"Server-sent events with JSON data ({names}); one done or error ends it.",
        }
        content["text/event-stream"] = {"schema": stream}
    return {"description": call.summary, "content": content}


def _bad(call: Call) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for code in errors_of(call):
        codes.setdefault(STATUS[ERRORS[code].kind], []).append(code)
    return {
        str(status): {
            "description": " or ".join(f"{code}: {ERRORS[code].message}" for code in found),
            "content": {"application/json": {"schema": _failure(found)}},
        }
        for status, found in sorted(codes.items())
    }


def _failure(codes: Sequence[str]) -> dict[str, Any]:
    return {
        "allOf": [
            _ref(s.Failure),
            {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}},
        ]
    }


def _data(answer: Any) -> dict[str, Any]:
    if isinstance(answer, type) and issubclass(answer, BaseModel):
        return _ref(answer)
    return {"type": "array", "items": _ref(answer.__args__[0])}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(calls: Sequence[Call]) -> Mapping[str, Any]:
    bodies = {call.body for call in calls if call.body}
    answers = {s.Failure} | {a for call in calls if (a := _model(call.answer))}
    answers |= {model for call in calls for model in (call.events or {}).values()}
    wanted: list[Any] = [(model, "validation") for model in bodies] + [(model, "serialization") for model in answers]
    _, document = models_json_schema(wanted, by_alias=True, ref_template=_REF)
    schemas: Mapping[str, Any] = document["$defs"]
    return schemas


def _model(answer: Any) -> type[BaseModel] | None:
    if answer is None:
        return None
    found: type[BaseModel] = (
        answer if isinstance(answer, type) and not hasattr(answer, "__args__") else answer.__args__[0]
    )
    return found
