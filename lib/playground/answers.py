"""An encoder's answers to the page's requests, and their places on the valence–arousal plane."""

from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from lib.playground.conversation import Condition, conditions, without
from lib.search.fusion import Query
from lib.search.recommender import Recommender
from lib.serve import contract
from lib.tracks.moods import MOODS

# Temperature of the softmax. A lower one moves each place to its nearest mood, a higher one to the middle.
TEMPERATURE = 0.08
SAMPLE = 2000  # tracks in the backdrop: enough to show where the catalogue is dense


class Refusal(Exception):
    """A request that the contract refuses. The message gives the reason."""


class Answer(NamedTuple):
    """An answer to one request."""

    query: Query  # without the conditions that the listener took off
    understood: dict[Condition, str]  # all conditions that were read, as chips say them
    note: str | None
    tracks: list[dict]  # as the API returns them, best first
    places: np.ndarray  # valence and arousal of the query, then of the tracks, (1 + tracks, 2)
    moves: list[str]  # each track's move since the previous answer
    origin: np.ndarray | None  # the query's place in the previous answer, (2,); None without one


def ask(
    recommender: Recommender, body: dict, previous: Answer | None = None, off: frozenset[Condition] = frozenset(),
    tracks: list[dict] | None = None,
) -> Answer:  # fmt: skip
    """Answer a request by the contract of POST /recommend; compare the answer with the previous one.

    The conditions `off` do not count, although the request names them. A `Refusal` is the contract's. `tracks`: those
    that a tier has chosen.
    """
    request = contract.parse(body)
    if isinstance(request, contract.Answer):
        raise Refusal(request.content.error.message)
    reading = recommender.read(request.text, request.history)
    vectors = dict(zip(reading.texts, recommender.encode(reading.texts), strict=True))
    corrected = without(recommender, reading, off)
    response = contract.answer(recommender, request, vectors, corrected).content
    if isinstance(response, contract.ErrorResponse):
        raise Refusal(response.error.message)
    tracks = tracks or response.model_dump()["tracks"]
    ids = [track["id"] for track in tracks]
    query = recommender.query(corrected, request.liked, request.disliked, vectors)
    where = places(recommender, np.vstack([query.vector, recommender.vectors[recommender.rows(ids)]]))
    moved = moves([track["id"] for track in previous.tracks], ids) if previous else [""] * len(ids)
    origin = previous.places[0] if previous else None
    return Answer(query, conditions(reading), response.note, tracks, where, moved, origin)


def moves(before: list[str], after: list[str]) -> list[str]:
    """Return each id's move from one ranking to the next: "new", "▲ 2" (two ranks up), "▼ 1" (one down), or ""."""
    old = {track: rank for rank, track in enumerate(before)}
    steps = [old[track] - rank if track in old else None for rank, track in enumerate(after)]
    return ["new" if s is None else f"▲ {s}" if s > 0 else f"▼ {-s}" if s < 0 else "" for s in steps]


def places(recommender: Recommender, vectors: np.ndarray) -> np.ndarray:
    """Return the valence and arousal, -1 to 1, of songs or queries: the mean of the moods' points.

    A mood's weight is the softmax of the cosine between the vector and the mean vector of the mood's songs.
    (n, d) unit vectors -> (n, 2); NaN if none of the catalogue's moods is on the plane.
    """
    known = [mood for mood in recommender.moods if mood in MOODS]
    if not known:
        return np.full((len(vectors), 2), np.nan)
    centres = recommender.centres[np.isin(recommender.moods, known)]
    weights = softmax(vectors @ centres.T / TEMPERATURE, axis=1)
    return weights @ [(MOODS[mood].valence, MOODS[mood].arousal) for mood in known]


def backdrop(recommender: Recommender) -> np.ndarray:
    """Return the places of at most `SAMPLE` tracks, spread evenly over the catalogue. -> (n, 2)."""
    return places(recommender, recommender.vectors[:: -(-len(recommender.tracks) // SAMPLE) or 1])
