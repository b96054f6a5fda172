"""Sessions and trends in answers. They are applied after the cache, which keeps pools of tracks that listeners share.

A pool holds the tracks that fit the text best. A worker then moves the query towards the session's likes and away
from its skips, as `liked` and `disliked` do, scores the pool's tracks again, and leaves out the session's tracks.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from deploy.scale.events.schema import Name
from deploy.scale.events.sessions import MOST, Memory, Trends
from lib.search.fusion import Query
from lib.search.index import top
from lib.search.recommender import DISLIKED, DIVERSITY, LIKED, POOL, Recommender
from lib.search.turn import Reading
from lib.serve import contract

LIFT = 0.3  # the score that the most trending track gains at `trending` 1 when tracks are chosen
TOP = 10  # tracks of GET /trending
SIZE = 10 * POOL + MOST  # tracks of a pool: what ten tracks are chosen from, beside all of a session's


class RecommendRequest(contract.RecommendRequest):
    """A listener's request."""

    session: Name | None = Field(
        None,
        description="The session of the listener's events (POST /events). Its likes count as `liked`, its dislikes and "
        "skips as `disliked`, the older the less; its recent tracks are not repeated while others exist.",
    )
    trending: float = Field(
        0,
        ge=0,
        le=1,
        description="How much it counts what others play now. It changes which tracks are chosen, not their scores "
        "nor their order: of the chosen ones the best match stands first.",
    )


class Trend(BaseModel):
    """A track that is played now, and its events in the last hour."""

    id: str
    title: str
    artist: str
    mood: str
    genre: str
    strength: float = Field(description="0 to 1, on a logarithmic scale. An event loses half of its weight in 30 min.")
    plays: int
    likes: int
    skips: int


class Frequency(BaseModel):
    """How often listeners come."""

    active: int = Field(description="Sessions with an event in the last 10 minutes.")
    a_minute: int = Field(description="Sessions with an event in the last minute.")
    events_a_session: float = Field(description="Events of an active session in these 10 minutes.")


class Trending(BaseModel):
    """The tracks that are played most now, hottest first."""

    tracks: list[Trend]
    sessions: Frequency | None
    at: str | None = Field(description="The time of the result; null if there is none yet.")


@dataclass
class Pool:
    """A catalogue that notes the best tracks for a request instead of returning them."""

    songs: Recommender
    pool: np.ndarray | None = None

    def __getattr__(self, name: str):
        """Return all else from the catalogue."""
        return getattr(self.songs, name)

    def search(self, query: Query, top_k: int, mood: str | None, without=(), diversity: float = 0) -> list[dict]:
        """Note the rows of the `SIZE` best tracks."""
        songs = self.songs
        rows, cosine = songs.fusion.candidates(query, None if mood is None else songs._filter(mood))
        keep = ~np.isin(rows, songs.rows(without))
        scores, *_ = songs.fusion.score(query, rows[keep], cosine[keep])
        self.pool = np.sort(rows[keep][top(scores, SIZE)])
        return []


@dataclass
class Taste:
    """A catalogue as a session hears it now: a request's pool, the session's events, and the trends."""

    songs: Recommender
    pool: np.ndarray
    memory: Memory
    trends: Trends
    share: float  # the request's `trending`

    def __getattr__(self, name: str):
        """Return all else from the catalogue."""
        return getattr(self.songs, name)

    def query(self, reading: Reading, liked, disliked, vectors) -> Query:
        """Return the query, moved towards the session's likes and away from its skips."""
        query = self.songs.query(reading, liked, disliked, vectors)
        moved = query.vector
        for weights, side in zip(self.memory.weights(time.time()), (LIKED, -DISLIKED), strict=True):
            if rows := known(self.songs, weights):
                share = np.array([weights[track] for track in rows], np.float32)
                mean = share @ self.songs.index.at(np.array([*rows.values()])) / max(1, share.sum())
                moved = moved + side * mean
        return query._replace(vector=moved / np.linalg.norm(moved))

    def search(self, query: Query, top_k: int, mood, without=(), diversity: float = DIVERSITY) -> list[dict]:
        """Return the tracks of the pool that fit, without those of the session if enough others are left."""
        rows = self.pool
        inside = set(rows.tolist())
        heard = [row for row in known(self.songs, self.memory.tracks).values() if row in inside]  # newest first
        rows = rows[~np.isin(rows, heard[: max(0, len(rows) - top_k)])]
        names = map(self.songs.shown["id"], rows.tolist())
        lift = LIFT * self.share * np.array([self.trends.strength.get(name, 0) for name in names], np.float32)
        return self.songs.choose(query, rows, self.songs.index.at(rows) @ query.vector, top_k, diversity, lift)


def known(songs: Recommender, ids) -> dict[str, int]:
    """Return the rows of the tracks that a catalogue has."""
    ids = list(ids)
    try:
        return dict(zip(ids, songs.rows(ids).tolist(), strict=True))
    except KeyError as error:
        missing = set(error.args[0])
        return known(songs, [track for track in ids if track not in missing])


def pool(songs: Recommender, request: contract.RecommendRequest, vectors) -> tuple[contract.Answer, bytes]:
    """Return an answer without tracks, or an error; and the request's pool: rows, and the vectors of its texts.

    `vectors`: those of the request's texts, as `contract.answer` takes them; None to encode here.
    """
    texts = songs.read(request.text, request.history).texts
    vectors = vectors or dict(zip(texts, songs.encode(texts), strict=True))
    noted = Pool(songs)
    answer = contract.answer(noted, request, vectors)
    if answer.status != 200:
        return answer, b""
    parts = np.array([len(noted.pool)]), noted.pool, np.stack([vectors[text] for text in texts])
    return answer, b"".join(part.astype(kind).tobytes() for part, kind in zip(parts, ("i4", "i4", "f4"), strict=True))


def answer(
    songs: Recommender, request: RecommendRequest, packed: bytes, memory: Memory, trends: Trends
) -> contract.Answer:
    """Answer a request from its pool."""
    end = 4 + 4 * int.from_bytes(packed[:4], "little")
    vectors = np.frombuffer(packed[end:], np.float32).reshape(-1, songs.vectors.shape[1])
    texts = songs.read(request.text, request.history).texts
    taste = Taste(songs, np.frombuffer(packed[4:end], np.int32), memory, trends, request.trending)
    return contract.answer(taste, request, dict(zip(texts, vectors, strict=True)))


def trending(songs: Recommender, trends: Trends, mood: str | None, genre: str | None) -> contract.Answer:
    """Answer GET /trending: the tracks of a mood and a genre that are played now."""
    for name, value, values in (("mood", mood, songs.moods), ("genre", genre, sorted(set(songs.tracks["genre"])))):
        if value is not None and value not in values:
            message = f"No track has the {name} {value!r}; there are {', '.join(values)}."
            return contract.failure(400, message, name, f"unknown_{name}")
    rows, tracks = known(songs, [track.id for track in trends.tracks]), []
    for trend in trends.tracks:
        if trend.id in rows:
            track = {name: read(rows[trend.id]) for name, read in songs.shown.items()} | trend._asdict()
            if mood in (None, track["mood"]) and genre in (None, track["genre"]):
                tracks.append(Trend(**track))
        if len(tracks) == TOP:
            break
    return contract.Answer(200, Trending(tracks=tracks, sessions=trends.frequency, at=trends.at))


def openapi(moods: list[str]) -> contract.Answer:
    """Answer GET /openapi.json: the contract with the tier's own fields and paths."""
    document = contract.openapi(moods, request=RecommendRequest).content
    own = yaml.safe_load(Path(__file__).with_name("trending.yaml").read_text(encoding="utf-8"))
    _, generated = models_json_schema([(Trending, "serialization")], ref_template="#/components/schemas/{model}")
    document["paths"] |= own["paths"]
    document["components"]["schemas"] |= generated["$defs"]
    return contract.Answer(200, document)
