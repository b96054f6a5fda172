"""The `shown` records of answers: what an answer showed, noted once where it is made, logged each time it is sent.

The note goes with the answer into the caches, and with the header X-Shown into Varnish. So nothing parses an answer
again, and whoever sends an answer from a cache can log it: a worker, or deploy/scale/events/edge.py for Varnish.
"""

import base64
import json
import os
import re
from datetime import UTC, datetime
from itertools import pairwise

from pydantic_core import to_json

from lib.search.match import PARTS
from lib.serve.contract import RecommendRequest, RecommendResponse

HEADER = "X-Shown"
SERVING = "X-Serving"  # of a request: unique, from Envoy. A request that is sent again to another worker has the same.
NOWHERE = "none"  # its value where nobody sees the answer: Varnish fetches it to have a fresh one
NAME = re.compile(r"[\x21-\x7e]{1,128}")  # as schema.Name
TEXT = os.environ.get("LOG_TEXT") == "1"


def note(answer: RecommendResponse, request: RecommendRequest) -> bytes:
    """Return what an answer shows, as JSON in base64: model, mood, text and tracks, [[id, score, track.parts], …]."""
    about = {
        "tracks": [[track.id, track.score, [round(part, 4) for part in track.parts]] for track in answer.tracks],
        "model": answer.model,
        "mood": request.mood,
        "text": request.text if TEXT else None,
    }
    return base64.b64encode(to_json(about))


def lines(noted: bytes, serving: str, request: str | None, at: datetime, session: str | None = None) -> bytes:
    """Return the records of an answer that was sent, as lines of the log.

    Args:
        noted: from `note`.
        serving: unique for this answer; the records' ids begin with it.
        request: its X-Request-Id, left out if it could not be an event's.
        at: the time of sending.
    """
    about = json.loads(base64.b64decode(noted))
    tracks = about.pop("tracks")
    own = about | {"kind": "shown", "session": session, "at": at, "received": datetime.now(UTC)}
    own["request"] = request if request and NAME.fullmatch(request) else None
    records = []
    for n, (track, score, after) in enumerate(tracks, 1):
        gains = (round(here - before, 4) for before, here in pairwise([0, *after]))
        parts = dict(zip(PARTS, gains, strict=False)) or None
        records.append(own | {"id": f"{serving}-{n}", "track": track, "position": n, "score": score, "parts": parts})
    return b"".join(to_json(record, exclude_none=True) + b"\n" for record in records)
