"""The door of events: POST /events into the log, and the log of what each answer showed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import yaml
from fastapi import Request
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema

from deploy.scale.events import shown
from deploy.scale.events.journal import Full, Journal
from deploy.scale.events.schema import Batch, Event, Record
from lib.search.recommender import Recommender
from lib.serve import contract

AHEAD, BEHIND = timedelta(minutes=5), timedelta(days=7)  # the times that an event may have
CODES = {"json_invalid": "not_json", "missing": "missing_field", "extra_forbidden": "unknown_field"}
MESSAGES = {"string_pattern_mismatch": "1 to 128 printable ASCII characters without spaces are expected"}


class Refused(Exception):
    """An error answer: a contract.Answer, and headers."""

    def __init__(self, answer: contract.Answer, headers: dict[str, str] | None = None) -> None:
        super().__init__(answer, headers)


def refuse(message: str, field: str | None = None, code: str = "invalid_value") -> Refused:
    """Return the 400 for a batch."""
    return Refused(contract.failure(400, message, field, code))


def later(status: int, message: str) -> Refused:
    """Return an error after which the client sends the same batch again: its ids make doubles harmless."""
    return Refused(contract.failure(status, message), {"Retry-After": "1"})


class Door:
    """The log of a worker.

    Args:
        folder: of the log; "" for a tier without events.
    """

    def __init__(self, folder: str) -> None:
        self.journal = Journal(Path(folder)) if folder else None

    async def take(self, body: bytes, songs: Recommender) -> list[Event]:
        """Return the events of a body, after they are on the disk.

        Raises:
            Refused: 400 if any of them is not valid, 429 if too many wait, 503 if the disk takes none.
        """
        events, now = parse(body), datetime.now(UTC)
        check(events, now, songs)
        records = [Record.model_construct(**dict(e) | {"at": e.at.astimezone(UTC)}, received=now) for e in events]
        try:
            await self.journal.append(records)
        except Full:
            raise later(429, "Too many events wait for the disk.") from None
        except OSError as error:
            raise later(503, f"The events are not kept: {error.strerror}.") from error
        return events

    def pack(self, answer: contract.RecommendResponse, request: contract.RecommendRequest) -> bytes:
        """Return an answer as the caches keep it: the note of what it shows, a line break, its body."""
        return (
            (shown.note(answer, request) if self.journal else b"") + b"\n" + contract.Answer(200, answer).body.encode()
        )

    def send(self, packed: bytes, request: Request, session: str | None = None) -> tuple[bytes, dict[str, str]]:
        """Log what an answer shows, without a wait. Return its body, and a header with the note."""
        noted, _, body = packed.rpartition(b"\n")
        if not self.journal or not noted:
            return body, {}
        serving = request.headers.get(shown.SERVING) or uuid4().hex
        if serving != shown.NOWHERE:
            asked = request.headers.get("X-Request-Id")
            self.journal.add(partial(shown.lines, noted, serving, asked, datetime.now(UTC), session))
        return body, {shown.HEADER: noted.decode()}

    def describe(self, document: contract.Answer) -> contract.Answer:
        """Return the OpenAPI document with POST /events, where there are events."""
        if not self.journal:
            return document
        _, generated = models_json_schema([(Batch, "validation")], ref_template="#/components/schemas/{model}")
        paths = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))
        document.content["paths"] |= paths
        document.content["components"]["schemas"] |= generated["$defs"]
        return document

    def close(self) -> None:
        """Write all that waits."""
        if self.journal:
            self.journal.close()


def parse(body: bytes) -> list[Event]:
    """Return the events of a body. Refused: the first of its errors, with the event's index and the field."""
    try:
        return Batch.model_validate_json(body).events
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = path(first["loc"])
        message = MESSAGES.get(first["type"], first["msg"])
        raise refuse(f"{where or 'The body'}: {message}.", where, CODES.get(first["type"], "invalid_value")) from None


def path(loc: Sequence[str | int]) -> str | None:
    """Return a place in a body as events[3].kind."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)[1:] or None


def check(events: list[Event], now: datetime, songs: Recommender) -> None:
    """Refuse events of another time, or with tracks that the catalogue does not have."""
    for n, event in enumerate(events):
        if event.at - now > AHEAD or now - event.at > BEHIND:
            early = "7 days ago" if event.at < now else "5 minutes ahead"
            raise refuse(f"events[{n}].at: {event.at.isoformat()} is more than {early}.", f"events[{n}].at")
    try:
        songs.rows(event.track for event in events)
    except KeyError as error:
        unknown = dict.fromkeys(error.args[0])
        first = next(n for n, event in enumerate(events) if event.track in unknown)
        names = ", ".join([*unknown][:10]) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        raise refuse(f"No such track: {names}.", f"events[{first}].track", "unknown_track") from None
