"""The events of listeners: one model for the door, the log and the lake."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

MOST = 500  # events of a batch
KINDS = ("shown", "played", "skipped", "liked", "disliked")
Name = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]  # printable ASCII without spaces


class Event(BaseModel):
    """An event as a client sends it."""

    model_config = ConfigDict(extra="forbid")

    id: Name = Field(description="The client's own, unique for ever: an event that comes twice counts once.")
    kind: Literal[KINDS]
    track: Name
    request: Name | None = Field(None, description="The X-Request-Id of the answer that showed the track.")
    session: Name | None = Field(None, description="Opaque: it must not say who the listener is.")
    at: AwareDatetime = Field(description="The time of the event, with its zone.")


class Batch(BaseModel):
    """The body of POST /events: all of its events are kept, or none."""

    model_config = ConfigDict(extra="forbid")

    events: list[Event] = Field(min_length=1, max_length=MOST)


class Record(Event):
    """An event as the log keeps it: a JSON object in one line.

    `shown` has the place of the track in the answer, its score with the parts that were fused, and the answer's model.
    """

    received: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    position: int | None = Field(None, ge=1, description="1 for the first track of the answer.")
    score: float | None = None
    parts: dict[str, float] | None = Field(None, description="The parts of the fused score by name.")
    model: str | None = Field(None, description="SHA-256 of the model that answered.")
    mood: str | None = Field(None, description="The mood that the request was limited to.")
    text: str | None = Field(None, description="The request's text; only with --log-text.")
