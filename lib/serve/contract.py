"""The contract of POST /recommend: what a request may hold and what comes back. It knows nothing of Jupyter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

if TYPE_CHECKING:  # the gateway needs the contract, not PyTorch
    import numpy as np

    from lib.search.recommender import Recommender


DEFAULT_TOP_K = 5
BODY_LIMIT = 64 * 1024  # bytes
# A JSON schema's maxLength counts what is trimmed, so the rule is said as a pattern, with Unicode's white space.
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TRIMMED = rf"^[{SPACE}]*[^{SPACE}]([\s\S]{{0,998}}[^{SPACE}])?[{SPACE}]*$"
Text = Annotated[
    StrictStr,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=1000),
    WithJsonSchema({"type": "string", "pattern": TRIMMED}),
]
TopK = Annotated[StrictInt, Field(ge=1, le=10)]
Diversity = Annotated[StrictFloat, Field(ge=0, le=1)]
TrackId = Annotated[StrictStr, Field(json_schema_extra={"format": "track-id"})]
QUOTED = 1000  # characters of an error that are told
COUNTS = ("top_k", "num_recommendations")  # two names of one value: where both are numbers, they are the same
ONE_COUNT = {
    "if": {"required": [*COUNTS], "properties": {name: {"type": "integer"} for name in COUNTS}},
    "then": {"oneOf": [{"properties": {name: {"const": n} for name in COUNTS}} for n in range(1, 11)]},
}


class RecommendRequest(BaseModel):
    """What the listener asks."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=ONE_COUNT)

    text: Text = Field(
        description="1 to 1000 characters after trimming: what the listener wants, in words.",
        examples=["Jazzy lo-fi beats for studying"],
    )
    top_k: TopK | None = Field(None, description=f"How many tracks; {DEFAULT_TOP_K} if absent.")
    num_recommendations: TopK | None = Field(None, description="Another name for top_k.")
    mood: StrictStr | None = Field(None, description="Only tracks of this mood.")
    liked: list[TrackId] = Field([], description="Ids of tracks that pull the request towards them.")
    disliked: list[TrackId] = Field([], description="Ids of tracks that push the request away from them.")
    diversity: Diversity | None = Field(None, description="0: the nearest, however alike; 1: as unlike as can be.")
    explain: StrictBool = Field(False, description="Say of each track why it fits.")

    @model_validator(mode="after")
    def _one_count(self) -> RecommendRequest:
        if None not in (self.top_k, self.num_recommendations) and self.top_k != self.num_recommendations:
            raise ValueError("top_k and num_recommendations are two names of one value, and they differ")
        return self


class Word(BaseModel):
    """A word of the track's text and its share of the score, negative where it speaks against the track."""

    word: str
    share: float


class Mood(BaseModel):
    """A mood and the cosine similarity of the track to the mean of its tracks."""

    mood: str
    similarity: float


class Why(BaseModel):
    """Why a track fits: the words that carried the match, and its nearest moods."""

    words: list[Word]
    moods: list[Mood]


class Track(BaseModel):
    """One recommended track."""

    id: str
    title: str
    artist: str
    mood: str
    score: float = Field(description="Cosine similarity; never increasing down the list.")
    match: str = Field(description="strong above 0.7, moderate from 0.5, borderline from 0.4, weak below.")
    why: Why | None = Field(None, description="Only where explain was true.")


class RecommendResponse(BaseModel):
    """The best tracks, best first, and the SHA-256 of the model that found them."""

    tracks: list[Track]
    model: str


class Error(BaseModel):
    """What was wrong, and with which field."""

    code: str
    message: str
    field: str | None = None


class ErrorResponse(BaseModel):
    """Every answer that is not a success."""

    error: Error


class Health(BaseModel):
    """The process is alive."""

    status: str = "alive"


class Ready(BaseModel):
    """The service can answer: how many tracks, which model, form of it and index, and (from the gateway) kernels."""

    status: str = "ready"
    tracks: int
    model: str
    encoder: str
    index: str
    kernels: int | None = None
    kernels_ready: int | None = None


# What the service refuses or fails, by status: the code of the error, and what is said of it in the contract.
CODES = {
    400: "not_json",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
    503: "unavailable",
}
ERRORS = {
    400: "The body is not JSON, or a field is wrong: `field` names it.",
    401: "No token was sent, or a wrong one.",
    413: "The body is too large.",
    415: "The body is not plain application/json.",
    429: "Too many requests wait.",
    500: "The service failed; its log says why.",
    503: "There was no answer in time.",
}


@dataclass(frozen=True)
class Answer:
    """A status and a JSON body, ready to print from a notebook cell."""

    status: int
    body: str
    headers: dict = field(default_factory=lambda: {"Content-Type": "application/json"})

    @property
    def info(self) -> str:
        """What a Kernel Gateway ResponseInfo cell prints."""
        return json.dumps({"status": self.status, "headers": self.headers})


def shorten(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= QUOTED else text[: QUOTED - 1] + "…"


def failure(status: int, code: str, message: str, field: str | None = None) -> Answer:
    """An error answer in the contract's form; what it quotes of the request may be as long as that, and is cut."""
    error = ErrorResponse(error=Error(code=code, message=shorten(message), field=field and shorten(field)))
    return Answer(status, error.model_dump_json())


def recommend(recommender: Recommender, request: str, vectors: Mapping[str, np.ndarray] | None = None) -> Answer:
    """Answer one POST /recommend.

    Args:
        request: Kernel Gateway's REQUEST, a JSON text whose "body" is the HTTP body, parsed or as text.
        vectors: the vectors of texts that `encode_together` has encoded.
    """
    asked = read(_body(request))
    return asked if isinstance(asked, Answer) else answer(recommender, asked, (vectors or {}).get(asked.text))


def read(body: str | bytes) -> RecommendRequest | Answer:
    """What a body asks, or the answer that says what is wrong with it."""
    try:
        return RecommendRequest.model_validate_json(body)
    except ValidationError as error:
        return _invalid(error)


def answer(recommender: Recommender, asked: RecommendRequest, vector: np.ndarray | None = None) -> Answer:
    """Answer a valid request. `vector` is the text's vector, from a caller that has encoded it already."""
    if asked.mood is not None and asked.mood not in recommender.moods:
        moods = f"there are {', '.join(recommender.moods)}" if recommender.moods else "this catalogue has no moods"
        return failure(400, "unknown_mood", f"No track has the mood {asked.mood!r}; {moods}.", "mood")
    for name in ("liked", "disliked"):
        if unknown := [track for track in getattr(asked, name) if track not in recommender.ids]:
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            return failure(400, "unknown_track", f"No such track: {', '.join(unknown[:10])}{more}.", name)
    top_k = asked.top_k or asked.num_recommendations or DEFAULT_TOP_K
    diversity = {} if asked.diversity is None else {"diversity": asked.diversity}
    try:
        query = recommender.query(asked.text, asked.liked, asked.disliked, vector)
    except ValueError as error:
        return failure(400, "invalid_value", f"The field 'text' says nothing: {error}.", "text")
    found = recommender.search(query, top_k, asked.mood, [*asked.liked, *asked.disliked], **diversity)
    if asked.explain and found:
        reasons = recommender.explain(query, [track["id"] for track in found])
        found = [track | {"why": why} for track, why in zip(found, reasons, strict=True)]
    response = RecommendResponse(tracks=found, model=recommender.fingerprints["model"])
    return Answer(200, response.model_dump_json(exclude_none=True))


def encode_together(recommender: Recommender, requests: list[str]) -> dict[str, np.ndarray]:
    """Encode the texts of several requests in one batch, which costs less than one by one. -> text: (d,) float32."""
    parsed = [read(_body(request)) for request in requests]  # `recommend` refuses the invalid ones later
    texts = [request.text for request in parsed if isinstance(request, RecommendRequest)]
    return dict(zip(texts, recommender.encode(texts), strict=True))


def health() -> Answer:
    """The process is alive."""
    return Answer(200, Health().model_dump_json())


def ready(recommender: Recommender, vector: np.ndarray | None = None) -> Answer:
    """Encode a text (unless its vector is passed), search once, and return the fingerprints of model and index."""
    recommender.search(recommender.query("ready?", vector=vector), 1)
    said = Ready(tracks=len(recommender.tracks), **recommender.fingerprints)
    return Answer(200, said.model_dump_json(exclude_none=True))


def openapi(recommender: Recommender, token: str | None = None) -> Answer:
    """The contract as OpenAPI 3.1, from the models that validate, with the moods that this catalogue has.

    Args:
        token: what listeners must send, if anything; the document says that something is asked for, not what.
    """
    schemas = {}
    for model in (RecommendRequest, RecommendResponse, ErrorResponse, Health, Ready):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
    moods = [{"enum": recommender.moods}] if recommender.moods else []
    schemas["RecommendRequest"]["properties"]["mood"]["anyOf"] = [*moods, {"type": "null"}]
    recommend = {
        "summary": "Type how you feel, get songs.",
        "requestBody": {"required": True, "content": _content("RecommendRequest")},
        "responses": {"200": _said("The best tracks, best first.", _content("RecommendResponse"))} | _errors(*ERRORS),
    }
    figures = {"text/plain": {"schema": {"type": "string"}}}
    anything = {"application/json": {"schema": {"type": "object"}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Text-to-music recommendation", "version": "1"},
        "paths": {
            "/recommend": {"post": recommend},
            "/health": {"get": _look("The process is alive.", _content("Health")) | {"security": []}},
            "/ready": {"get": _look("Model and index answer.", _content("Ready")) | {"security": []}},
            "/metrics": {"get": _look("Figures of the service in Prometheus' text format.", figures)},
            "/openapi.json": {"get": _look("This document.", anything)},
        },
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}] if token else [],
    }
    return Answer(200, json.dumps(document))


def _body(request: str) -> str:
    body = json.loads(request)["body"]
    return body if isinstance(body, str) else json.dumps(body)


def _content(schema: str) -> dict:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _said(description: str, content: dict, headers: dict[str, str] | None = None) -> dict:
    headers = {"X-Request-Id": "Of this request, in the log too: the client's, or a new one."} | (headers or {})
    named = {name: {"description": said, "schema": {"type": "string"}} for name, said in headers.items()}
    return {"description": description, "content": content, "headers": named}


def _errors(*statuses: int) -> dict:
    later = {"Retry-After": "Seconds to wait before asking again."}
    return {str(s): _said(ERRORS[s], _content("ErrorResponse"), later if s in (429, 503) else {}) for s in statuses}


def _look(description: str, content: dict) -> dict:
    """An address that is only looked at."""
    return {"summary": description, "responses": {"200": _said(description, content)} | _errors(401, 413, 415, 503)}


def _invalid(error: ValidationError) -> Answer:
    """The first thing that was wrong, in words."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else None
    if first["type"] == "json_invalid":
        return failure(400, "not_json", f"The body is not JSON: {first['ctx']['error']}.")
    if first["type"] == "missing":
        return failure(400, "missing_field", f"The field {name!r} is required.", name)
    if first["type"] == "extra_forbidden":
        known = ", ".join(RecommendRequest.model_fields)
        return failure(400, "unknown_field", f"There is no field {name!r}; there are {known}.", name)
    if first["type"] == "string_too_short":
        return failure(400, "invalid_value", f"The field {name!r} is empty: say what you would like to hear.", name)
    if name is None and first["type"] == "model_type":
        return failure(400, "not_an_object", "The body must be a JSON object with a field 'text'.")
    message = first["msg"].removeprefix("Value error, ")
    return failure(400, "invalid_value", f"{name}: {message}." if name else f"{message}.", name or "top_k")
