"""A running tier (docs/scale.md) behind the page: what others play now, and answers that remember a session.

TIER=http://127.0.0.1:8080 TIER_TOKEN=$(make -s scale-token) make playground
"""

import json
import os
from datetime import UTC, datetime
from html import escape
from urllib.request import Request, urlopen
from uuid import uuid4

from lib.playground.answers import Refusal

ADDRESS, TRENDING = os.environ.get("TIER", ""), 0.5  # the tier; how much its trends count


def call(path: str, body: dict | None = None) -> dict:
    """Return the tier's answer, with its name in the log as `request`. A `Refusal` says why there is none."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('TIER_TOKEN', '')}"}
    try:
        with urlopen(Request(ADDRESS + path, body and json.dumps(body).encode(), headers), timeout=2) as response:
            return json.load(response) | {"request": response.headers["X-Request-Id"]}
    except (OSError, ValueError) as error:
        body = getattr(error, "read", bytes)().decode()  # such as: Jwt is expired
        raise Refusal(f"The tier at {ADDRESS} does not answer: {error} {body}") from error


def trending() -> str:
    """Return the tracks that others play now, or the reason why they are not known, as markup."""
    try:
        names = [f"{escape(track['title'])} ({track['plays']})" for track in call("/trending")["tracks"]]
    except Refusal as error:
        return escape(str(error))
    return f"Trending now: {', '.join(names) or 'nothing yet'}."


def tell(session: str, kind: str, track: dict) -> None:
    """Send an event of a session."""
    event = {"id": uuid4().hex, "kind": kind, "track": track["id"], "request": track.get("request"), "session": session}
    call("/events", {"events": [event | {"at": datetime.now(UTC).isoformat()}]})


def tracks(session: str, body: dict) -> list[dict]:
    """Return the tier's tracks for a request, each with the answer's name. The session has what is liked."""
    body = {name: value for name, value in body.items() if name not in ("liked", "disliked")}
    answer = call("/recommend", body | {"session": session, "trending": TRENDING})
    return [track | {"request": answer["request"]} for track in answer["tracks"]]
