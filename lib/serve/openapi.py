"""The contract as an OpenAPI 3.1 document, generated from the models that validate requests and answers."""

from __future__ import annotations

import json

from pydantic.json_schema import models_json_schema

from lib.serve.contract import ERRORS, Answer, ErrorResponse, Health, Ready, RecommendRequest, RecommendResponse

MODELS = [RecommendRequest, RecommendResponse, ErrorResponse, Health, Ready]
REF = "#/components/schemas/{model}"
REQUEST_ID = {"X-Request-Id": "The request's id, as in the log: the client's own, or a new one."}
RECOMMEND_ERRORS, LOOK_ERRORS = (400, 401, 413, 415, 429, 500, 503), (401, 413, 415, 503)
RETRY = {"Retry-After": "Seconds to wait before the next request."}


def answer(moods: list[str], token: str | None = None) -> Answer:
    """Answer GET /openapi.json.

    Args:
        moods: the catalogue's moods.
        token: the token that clients must send, if any. The document says that one is required, but not which.
    """
    _, generated = models_json_schema([(model, "validation") for model in MODELS], ref_template=REF)
    schemas = generated["$defs"]
    mood = schemas["RecommendRequest"]["properties"]["mood"]
    mood["anyOf"] = [{"enum": moods}, {"type": "null"}] if moods else [{"type": "null"}]
    recommend = _operation("The best tracks, best first.", _json("RecommendResponse"), *RECOMMEND_ERRORS)
    recommend |= {"summary": "Type how you feel, get songs."}
    recommend |= {"requestBody": {"required": True, "content": _json("RecommendRequest")}}
    public = {"security": []}
    figures = {"text/plain": {"schema": {"type": "string"}}}
    anything = {"application/json": {"schema": {"type": "object"}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Text-to-music recommendation", "version": "1"},
        "paths": {
            "/recommend": {"post": recommend},
            "/health": {"get": _operation("The process is alive.", _json("Health")) | public},
            "/ready": {"get": _operation("The model and the index answer.", _json("Ready")) | public},
            "/metrics": {"get": _operation("The service's figures in Prometheus' text format.", figures)},
            "/openapi.json": {"get": _operation("This document.", anything)},
        },
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}] if token else [],
    }
    return Answer(200, json.dumps(document))


def _json(schema: str) -> dict:
    return {"application/json": {"schema": {"$ref": REF.format(model=schema)}}}


def _operation(summary: str, content: dict, *errors: int) -> dict:
    responses = {"200": _response(summary, content, REQUEST_ID)}
    for status in errors or LOOK_ERRORS:
        headers = REQUEST_ID | RETRY if status in (429, 503) else REQUEST_ID
        responses[str(status)] = _response(ERRORS[status][1], _json("ErrorResponse"), headers)
    return {"summary": summary, "responses": responses}


def _response(description: str, content: dict, headers: dict[str, str]) -> dict:
    described = {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}
    return {"description": description, "content": content, "headers": described}
