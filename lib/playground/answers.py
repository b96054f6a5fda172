"""An encoder's answers to the page's requests, and their places on the valence–arousal plane."""

import json
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from lib.search.recommender import Recommender
from lib.serve import contract
from lib.tracks.moods import MOODS

# Temperature of the softmax. A lower one moves each place to its nearest mood, a higher one to the middle.
TEMPERATURE = 0.08
SAMPLE = 2000  # tracks in the backdrop: enough to show where the catalogue is dense


class Refusal(Exception):
    """A request that the contract refuses. The message gives the reason."""


@dataclass(frozen=True)
class Answer:
    """An answer to one request.

    Attributes:
        text: the request's text.
        query: its unit vector after likes and dislikes, (d,).
        tracks: the tracks as the API returns them, best first.
        places: valence and arousal of the query, then of the tracks, (1 + tracks, 2).
        moves: each track's move since the previous answer to the same text.
        origin: the query's place in that previous answer, (2,); None if the text is new.
    """

    text: str
    query: np.ndarray
    tracks: list[dict]
    places: np.ndarray
    moves: list[str]
    origin: np.ndarray | None


def ask(recommender: Recommender, body: dict, previous: Answer | None = None) -> Answer:
    """Answer a request by the contract of POST /recommend; compare the answer with the previous one.

    Raises:
        Refusal: the contract refuses the request.
    """
    request = contract.parse(json.dumps(body))
    if isinstance(request, contract.Answer):
        raise Refusal(json.loads(request.body)["error"]["message"])
    vector = recommender.encode([request.text])[0]
    response = json.loads(contract.answer(recommender, request, vector).body)
    if "error" in response:
        raise Refusal(response["error"]["message"])
    ids = [track["id"] for track in response["tracks"]]
    query = recommender.query(request.text, request.liked, request.disliked, vector)
    where = places(recommender, np.vstack([query, recommender.vectors[recommender.rows(ids)]]))
    moved, origin = [""] * len(ids), None
    if previous and previous.text == request.text:
        moved, origin = moves([track["id"] for track in previous.tracks], ids), previous.places[0]
    return Answer(request.text, query, response["tracks"], where, moved, origin)


def moves(before: list[str], after: list[str]) -> list[str]:
    """Return each id's move from one ranking to the next: "new", "▲ 2" (two ranks up), "▼ 1" (one down), or ""."""
    old = {track: rank for rank, track in enumerate(before)}
    steps = [old[track] - rank if track in old else None for rank, track in enumerate(after)]
    return ["new" if s is None else f"▲ {s}" if s > 0 else f"▼ {-s}" if s < 0 else "" for s in steps]


def places(recommender: Recommender, vectors: np.ndarray) -> np.ndarray:
    """Return the place of each song or query: the mean of the moods' points, weighted by its similarity to the moods.

    The weights are the softmax of the cosines between the vector and the mean vector of each mood's songs.

    Args:
        vectors: unit vectors, (n, d).

    Returns:
        (n, 2), valence and arousal from -1 to 1. NaN if none of the catalogue's moods is on the plane.
    """
    known = [i for i, mood in enumerate(recommender.moods) if mood in MOODS]
    if not known:
        return np.full((len(vectors), 2), np.nan)
    weights = softmax(vectors @ recommender.centres[known].T / TEMPERATURE, axis=1)
    return weights @ [(MOODS[recommender.moods[i]].valence, MOODS[recommender.moods[i]].arousal) for i in known]


def backdrop(recommender: Recommender) -> np.ndarray:
    """Return the places of at most `SAMPLE` tracks, spread evenly over the catalogue. -> (n, 2)."""
    return places(recommender, recommender.vectors[:: -(-len(recommender.tracks) // SAMPLE) or 1])
