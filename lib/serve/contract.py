"""The service's contract: valid requests, their answers, and both as OpenAPI. It does not depend on Jupyter or HTTP."""

from __future__ import annotations

import json
from http import HTTPStatus
from operator import not_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema, models_json_schema
from pydantic_core import to_json

if TYPE_CHECKING:  # the gateway uses the contract without loading PyTorch
    import numpy as np

    from lib.search.recommender import Recommender
    from lib.search.turn import Reading

CANARY = "Jazzy lo-fi beats for studying"  # the text that a run and a kernel must answer before they serve
DEFAULT_TOP_K = 5
BODY_LIMIT, QUOTE_LIMIT = 64 * 1024, 1000  # bytes of a body; characters of an error message
MOST_TRACKS = 200  # liked, and disliked: they bound the time that a request takes
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
SCORE = (
    "0 to 1; never increases down the list. The cosine similarity of the meaning, brought nearer to 1 by words, "
    "names and conditions that match, and lowered by each condition that the track does not meet."
)
# An error's code is the name of its status, except for these.
CODES = {400: "not_json", 413: "too_large", 500: "internal", 503: "unavailable"}
INVALID = {  # pydantic's type of an error -> code, message
    "json_invalid": ("not_json", "The body is not JSON: {ctx[error]}."),
    "missing": ("missing_field", "The field {name!r} is required."),
    "extra_forbidden": ("unknown_field", "There is no field {name!r}; there are {fields}."),
    "string_too_short": ("invalid_value", "The field {name!r} is empty: say what you would like to hear."),
    "string_too_long": ("invalid_value", "The field {name!r} has over {ctx[max_length]:,} characters."),
    "model_type": ("not_an_object", "The body must be a JSON object with a field 'text'."),
    "value_error": ("invalid_value", "{ctx[error]}."),
}


class RecommendRequest(BaseModel):
    """A listener's request."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=ONE_COUNT)

    text: Text = Field(
        description="The listener's wish in words; 1 to 1000 characters after trimming.",
        examples=[CANARY],
    )
    top_k: int | None = Field(None, ge=1, le=10, description=f"The number of tracks; {DEFAULT_TOP_K} by default.")
    num_recommendations: int | None = Field(None, ge=1, le=10, description="Another name for top_k.")
    history: list[Text] = Field(
        [], max_length=20, description="The listener's earlier texts in this conversation, oldest first."
    )
    mood: str | None = Field(None, description="Return only tracks of this mood.")
    liked: list[TrackId] = Field(
        [], max_length=MOST_TRACKS, description="Ids of tracks that pull the request towards them."
    )
    disliked: list[TrackId] = Field(
        [], max_length=MOST_TRACKS, description="Ids of tracks that push the request away from them."
    )
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
    """Why a track fits: by the request's words that it has, by the words that carried the meaning, and by moods."""

    matched: list[str] = Field(description="Words of the request that the track's text has.")
    words: list[Word]
    moods: list[Mood]


class Track(BaseModel):
    """A recommended track."""

    id: str
    title: str
    artist: str
    mood: str
    genre: str
    year: Annotated[int | None, BeforeValidator(lambda year: year or None)]
    language: str
    score: float = Field(description=SCORE)
    match: str = Field(description="strong above 0.7, moderate from 0.5, borderline from 0.4, weak below.")
    parts: SkipJsonSchema[list[float]] = Field([], exclude=True)  # the score after each of its PARTS, for a log
    why: Why | None = Field(None, exclude_if=not_, description="Present where the request has explain=true.")


class RecommendResponse(BaseModel):
    """The best tracks, best first, what was understood of the request, and the SHA-256 of the model."""

    tracks: list[Track]
    understood: dict[str, list[str] | dict[str, list[str]]] = Field(
        description='Conditions and names that were read: {"genre": ["rock"], "not": {"tempo": ["slow"]}}.'
    )
    note: str | None = Field(None, exclude_if=not_, description="Present if tracks miss a condition or none is close.")
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
    kernels: int | None = Field(None, exclude_if=not_)
    kernels_ready: int | None = Field(None, exclude_if=not_)


class Answer(NamedTuple):
    """A status and the content of a JSON body. A notebook cell prints the body."""

    status: int
    content: BaseModel | dict

    @property
    def body(self) -> str:
        """The content as JSON."""
        return to_json(self.content).decode()

    @property
    def info(self) -> str:
        """Status and headers as JSON: the output of Kernel Gateway's ResponseInfo cells."""
        return json.dumps({"status": self.status, "headers": {"Content-Type": "application/json"}})


def failure(status: int, message: str, field: str | None = None, code: str | None = None) -> Answer:
    """Return an error answer. Long quotes of the request are cut. The code is the status's own by default."""
    code = code or CODES.get(status, HTTPStatus(status).name.lower())
    return Answer(status, ErrorResponse(error=Error(code=code, message=_cut(message), field=field and _cut(field))))


def recommend(recommender: Recommender, request: str, vectors: dict[str, np.ndarray] | None = None) -> Answer:
    """Answer one POST /recommend. A text that is among `vectors` is not encoded again.

    `request` is Kernel Gateway's REQUEST: a JSON text whose "body" is the HTTP body, parsed or as text.
    """
    parsed = parse(json.loads(request)["body"])
    return parsed if isinstance(parsed, Answer) else answer(recommender, parsed, vectors)


def parse(body: str | bytes | dict, model: type[RecommendRequest] = RecommendRequest) -> RecommendRequest | Answer:
    """Return the request in an HTTP body, JSON or parsed; or the error answer if the body is not valid."""
    try:
        return model.model_validate_json(body) if isinstance(body, str | bytes) else model.model_validate(body)
    except ValidationError as error:
        return _invalid(error, model)


def answer(
    recommender: Recommender, request: RecommendRequest, vectors: dict[str, np.ndarray] | None = None,
    reading: Reading | None = None,
) -> Answer:  # fmt: skip
    """Answer a valid request.

    Args:
        vectors: a caller that has encoded its texts already passes their vectors, text: (d,).
        reading: what the request says, if a listener has corrected it.
    """
    if request.mood is not None and request.mood not in recommender.moods:
        moods = f"there are {', '.join(recommender.moods)}" if recommender.moods else "this catalogue has no moods"
        return failure(400, f"No track has the mood {request.mood!r}; {moods}.", "mood", "unknown_mood")
    for name in ("liked", "disliked"):
        try:
            recommender.rows(getattr(request, name))
        except KeyError as error:
            unknown = error.args[0]
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            return failure(400, f"No such track: {', '.join(unknown[:10])}{more}.", name, "unknown_track")
    reading = reading or recommender.read(request.text, request.history)
    try:
        query = recommender.query(reading, request.liked, request.disliked, vectors)
    except ValueError as error:
        return failure(400, f"The field 'text' says nothing: {error}.", "text", "invalid_value")
    diversity = {} if request.diversity is None else {"diversity": request.diversity}
    tracks = recommender.search(query, request.count, request.mood, [*request.liked, *request.disliked], **diversity)
    note = recommender.note(query, tracks)
    if request.explain and tracks:
        reasons = recommender.explain(query, [track["id"] for track in tracks])
        tracks = [track | {"why": why} for track, why in zip(tracks, reasons, strict=True)]
    fingerprint = recommender.fingerprints["model"]
    return Answer(200, RecommendResponse(tracks=tracks, understood=reading.understood, note=note, model=fingerprint))


def encode_together(recommender: Recommender, requests: list[str]) -> dict[str, np.ndarray]:
    """Encode the texts of several requests in one batch, which costs less than one by one. -> text: (d,) float32."""
    parsed = [parse(json.loads(request)["body"]) for request in requests]  # `recommend` refuses the invalid ones later
    valid = [request for request in parsed if isinstance(request, RecommendRequest)]
    texts = [text for request in valid for text in recommender.read(request.text, request.history).texts]
    return dict(zip(texts, recommender.encode(texts), strict=True))


def health() -> Answer:
    """Answer GET /health."""
    return Answer(200, Health())


def ready(recommender: Recommender, vectors: dict[str, np.ndarray] | None = None) -> Answer:
    """Answer GET /ready: encode a text (unless its vector is passed) and search for it."""
    recommender.search(recommender.query(recommender.read("ready?"), vectors=vectors), 1)
    return Answer(200, Ready(tracks=len(recommender.tracks), **recommender.fingerprints))


def openapi(moods: list[str], token: str | None = None, request: type[BaseModel] = RecommendRequest) -> Answer:
    """Answer GET /openapi.json. The document says that clients must send a token, if there is one, but not which."""
    document = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))
    models = [(model, "validation") for model in (request, RecommendResponse, ErrorResponse, Health, Ready)]
    _, generated = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas = document["components"]["schemas"] = generated["$defs"]
    mood = schemas["RecommendRequest"]["properties"]["mood"]
    mood["anyOf"] = [{"enum": moods}, {"type": "null"}] if moods else [{"type": "null"}]
    document["security"] = [{"token": []}] if token else []
    return Answer(200, document)


def _cut(text: str) -> str:
    return text if len(text) <= QUOTE_LIMIT else text[: QUOTE_LIMIT - 1] + "…"


def _invalid(error: ValidationError, model: type[RecommendRequest]) -> Answer:
    """Return an answer that explains the first error."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else None
    code, message = INVALID.get(first["type"], ("invalid_value", "{name}: {msg}."))
    message += " The tier has it: docs/listeners.md." * (code == "unknown_field" and name in ("session", "trending"))
    message = message.format(name=name, fields=", ".join(model.model_fields), **first)
    return failure(400, message, "top_k" if first["type"] == "value_error" else name, code)
