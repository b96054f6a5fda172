"""The contract as an OpenAPI 3.1 document: openapi.yaml, and the schemas of the models that validate."""

import json
from pathlib import Path

import yaml
from pydantic.json_schema import models_json_schema

from lib.serve.contract import Answer, ErrorResponse, Health, Ready, RecommendRequest, RecommendResponse

MODELS = [(model, "validation") for model in (RecommendRequest, RecommendResponse, ErrorResponse, Health, Ready)]


def answer(moods: list[str], token: str | None = None) -> Answer:
    """Answer GET /openapi.json.

    Args:
        moods: the catalogue's moods.
        token: the token that clients must send, if any. The document says that one is required, but not which.
    """
    document = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))
    _, generated = models_json_schema(MODELS, ref_template="#/components/schemas/{model}")
    schemas = document["components"]["schemas"] = generated["$defs"]
    mood = schemas["RecommendRequest"]["properties"]["mood"]
    mood["anyOf"] = [{"enum": moods}, {"type": "null"}] if moods else [{"type": "null"}]
    document["security"] = [{"token": []}] if token else []
    return Answer(200, json.dumps(document))
