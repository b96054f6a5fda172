"""The contract of POST /recommend: valid requests and their answers. This module does not depend on Jupyter or HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema, model_validator

if TYPE_CHECKING:  # the gateway uses the contract without loading PyTorch
    import numpy as np

    from lib.search.recommender import Recommender

DEFAULT_TOP_K = 5
BODY_LIMIT = 64 * 1024  # bytes
QUOTE_LIMIT = 1000  # characters of an error message
# JSON Schema's maxLength counts the spaces that trimming removes. So a pattern states the rule, with Unicode's spaces.
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TRIMMED = rf"^[{SPACE}]*[^{SPACE}]([\s\S]{{0,998}}[^{SPACE}])?[{SPACE}]*$"
Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=1000),
    WithJsonSchema({"type": "string", "pattern": TRIMMED}),
]
TrackId = Annotated[str, Field(json_schema_extra={"format": "track-id"})]
COUNTS = ("top_k", "num_recommendations")
ONE_COUNT = {  # two integers must be equal
    "if": {"required": [*COUNTS], "properties": {name: {"type": "integer"} for name in COUNTS}},
    "then": {"oneOf": [{"properties": {name: {"const": n} for name in COUNTS}} for n in range(1, 11)]},
}
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


class RecommendRequest(BaseModel):
    """A listener's request."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=ONE_COUNT)

    text: Text = Field(
        description="The listener's wish in words; 1 to 1000 characters after trimming.",
        examples=["Jazzy lo-fi beats for studying"],
    )
    top_k: int | None = Field(None, ge=1, le=10, description=f"The number of tracks; {DEFAULT_TOP_K} by default.")
    num_recommendations: int | None = Field(None, ge=1, le=10, description="Another name for top_k.")
    mood: str | None = Field(None, description="Return only tracks of this mood.")
    liked: list[TrackId] = Field([], description="Ids of tracks that pull the request towards them.")
    disliked: list[TrackId] = Field([], description="Ids of tracks that push the request away from them.")
    diversity: float | None = Field(None, ge=0, le=1, description="0: the nearest tracks; 1: the most varied ones.")
    explain: bool = Field(False, description="Explain why each track fits.")

    @model_validator(mode="after")
    def _one_count(self) -> RecommendRequest:
        if None not in (self.top_k, self.num_recommendations) and self.top_k != self.num_recommendations:
            raise ValueError("top_k and num_recommendations are two names of one value, and they differ")
        return self

    @property
    def count(self) -> int:
        """The number of tracks to return."""
        return self.top_k or self.num_recommendations or DEFAULT_TOP_K


class Word(BaseModel):
    """A word of the track's text and its share of the score. A negative share speaks against the track."""

    word: str
    share: float


class Mood(BaseModel):
    """A mood and the cosine similarity of the track to the mean of the mood's tracks."""

    mood: str
    similarity: float


class Why(BaseModel):
    """The words that carried the match, and the track's nearest moods."""

    words: list[Word]
    moods: list[Mood]


class Track(BaseModel):
    """A recommended track."""

    id: str
    title: str
    artist: str
    mood: str
    score: float = Field(description="Cosine similarity; never increases down the list.")
    match: str = Field(description="strong above 0.7, moderate from 0.5, borderline from 0.4, weak below.")
    why: Why | None = Field(None, description="Present where the request has explain=true.")


class RecommendResponse(BaseModel):
    """The best tracks, best first, and the SHA-256 of the model."""

    tracks: list[Track]
    model: str


class Error(BaseModel):
    """An error: its code, a message for people, and the field that is wrong."""

    code: str
    message: str
    field: str | None = None


class ErrorResponse(BaseModel):
    """The body of every answer that is not a success."""

    error: Error


class Health(BaseModel):
    """The process is alive."""

    status: str = "alive"


class Ready(BaseModel):
    """The service can answer: its tracks, its model, encoder and index, and (from the gateway) its kernels."""

    status: str = "ready"
    tracks: int
    model: str
    encoder: str
    index: str
    kernels: int | None = None
    kernels_ready: int | None = None


class Answer(NamedTuple):
    """A status and a JSON body, ready to be printed by a notebook cell."""

    status: int
    body: str

    @property
    def info(self) -> str:
        """Status and headers as JSON: the output of Kernel Gateway's ResponseInfo cells."""
        return json.dumps({"status": self.status, "headers": {"Content-Type": "application/json"}})


def failure(status: int, message: str, field: str | None = None, code: str | None = None) -> Answer:
    """Return an error answer. Long quotes of the request are cut. The code is the status's own by default."""
    error = Error(code=code or CODES.get(status, "internal"), message=_cut(message), field=field and _cut(field))
    return Answer(status, ErrorResponse(error=error).model_dump_json())


def recommend(recommender: Recommender, request: str, vectors: dict[str, np.ndarray] | None = None) -> Answer:
    """Answer one POST /recommend.

    Args:
        request: Kernel Gateway's REQUEST: a JSON text whose "body" is the HTTP body, parsed or as text.
        vectors: the vectors of texts that `encode_together` has encoded.
    """
    parsed = parse(_body(request))
    return parsed if isinstance(parsed, Answer) else answer(recommender, parsed, (vectors or {}).get(parsed.text))


def parse(body: str | bytes) -> RecommendRequest | Answer:
    """Return the request in an HTTP body, or the error answer if the body is not valid."""
    try:
        return RecommendRequest.model_validate_json(body)
    except ValidationError as error:
        return _invalid(error)


def answer(recommender: Recommender, request: RecommendRequest, vector: np.ndarray | None = None) -> Answer:
    """Answer a valid request. A caller that has encoded the text already passes its vector, (d,)."""
    if request.mood is not None and request.mood not in recommender.moods:
        moods = f"there are {', '.join(recommender.moods)}" if recommender.moods else "this catalogue has no moods"
        return failure(400, f"No track has the mood {request.mood!r}; {moods}.", "mood", "unknown_mood")
    for name in ("liked", "disliked"):
        if unknown := [track for track in getattr(request, name) if track not in recommender.ids]:
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            return failure(400, f"No such track: {', '.join(unknown[:10])}{more}.", name, "unknown_track")
    try:
        query = recommender.query(request.text, request.liked, request.disliked, vector)
    except ValueError as error:
        return failure(400, f"The field 'text' says nothing: {error}.", "text", "invalid_value")
    diversity = {} if request.diversity is None else {"diversity": request.diversity}
    tracks = recommender.search(query, request.count, request.mood, [*request.liked, *request.disliked], **diversity)
    if request.explain and tracks:
        reasons = recommender.explain(query, [track["id"] for track in tracks])
        tracks = [track | {"why": why} for track, why in zip(tracks, reasons, strict=True)]
    response = RecommendResponse(tracks=tracks, model=recommender.fingerprints["model"])
    return Answer(200, response.model_dump_json(exclude_none=True))


def encode_together(recommender: Recommender, requests: list[str]) -> dict[str, np.ndarray]:
    """Encode the texts of several requests in one batch, which costs less than one by one. -> text: (d,) float32."""
    parsed = [parse(_body(request)) for request in requests]  # `recommend` refuses the invalid ones later
    texts = [request.text for request in parsed if isinstance(request, RecommendRequest)]
    return dict(zip(texts, recommender.encode(texts), strict=True))


def health() -> Answer:
    """Answer GET /health."""
    return Answer(200, Health().model_dump_json())


def ready(recommender: Recommender, vector: np.ndarray | None = None) -> Answer:
    """Answer GET /ready: encode a text (unless its vector is passed) and search for it."""
    recommender.search(recommender.query("ready?", vector=vector), 1)
    state = Ready(tracks=len(recommender.tracks), **recommender.fingerprints)
    return Answer(200, state.model_dump_json(exclude_none=True))


def _cut(text: str) -> str:
    return text if len(text) <= QUOTE_LIMIT else text[: QUOTE_LIMIT - 1] + "…"


def _body(request: str) -> str:
    body = json.loads(request)["body"]
    return body if isinstance(body, str) else json.dumps(body)


def _invalid(error: ValidationError) -> Answer:
    """Return an answer that explains the first error."""
    first = error.errors()[0]
    kind, name = first["type"], str(first["loc"][0]) if first["loc"] else None
    if kind == "json_invalid":
        return failure(400, f"The body is not JSON: {first['ctx']['error']}.")
    if kind == "missing":
        return failure(400, f"The field {name!r} is required.", name, "missing_field")
    if kind == "extra_forbidden":
        fields = ", ".join(RecommendRequest.model_fields)
        return failure(400, f"There is no field {name!r}; there are {fields}.", name, "unknown_field")
    if kind == "string_too_short":
        return failure(400, f"The field {name!r} is empty: say what you would like to hear.", name, "invalid_value")
    if kind == "model_type":
        return failure(400, "The body must be a JSON object with a field 'text'.", None, "not_an_object")
    message = first["msg"].removeprefix("Value error, ")
    return failure(400, f"{name}: {message}." if name else f"{message}.", name or "top_k", "invalid_value")
