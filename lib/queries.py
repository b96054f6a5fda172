"""Listener requests with graded relevance. Train, dev and test share no template and no mood wording."""

from __future__ import annotations

from string import Formatter

import numpy as np
import pandas as pd

from lib.moods import MOODS, SPLITS, near
from lib.tracks import fill, pick

# A template is used for a track that has all of its slots; {title} and {tags} serve catalogues without moods.
TEMPLATES = {
    "train": (
        "{word} {genre}",
        "{word} music",
        "{word} songs please",
        "something {phrase}",
        "{word} music for {activity}",
        "{genre} for {activity}",
        "I want {genre} that is {word}, instrumental only",
        "play me something {word}, not {opposite}",
        "{tags}",
        "a song like {title}",
    ),
    "dev": (
        "any {word} {genre} tracks?",
        "tunes for {activity}",
        "put on anything {phrase}",
        "more of this: {tags}",
        "who has {title}",
    ),
    "test": (
        "Looking for {genre} with a {word} vibe",
        "I'm in the mood for {word} tunes",
        "Could you find one {phrase}?",
        "What goes well with {activity}?",
        "Build a playlist around {activity}, {word} if possible",
        "give us {word} instrumentals in a {genre} style",
        "anything but {opposite}: make it {word}",
        "Find recordings described as {tags}",
        "Do you know {title}?",
    ),
}
# A template with this in it asks for no singing.
INSTRUMENTAL = "instrumental"
GRADES = {"exact": 3, "mood": 2, "near": 1}


def generate(tracks: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Make `n` requests: 70 % for training, 10 % dev, 20 % test, each about a track of its own split.

    Returns:
        A row a request: request_id, text, split, template, mood, genre (what was asked for, "" if not asked),
        instrumental (asked for no singing), target (the track it was worded from), track_ids and grades
        (the relevant tracks of the same split; for training only the target).
    """
    rng = np.random.default_rng(seed + 1)
    shares = dict(zip(SPLITS, (0.7, 0.1, 0.2), strict=True))
    parts = [
        _of_split(tracks[tracks["split"] == split].reset_index(drop=True), split, max(1, round(n * share)), rng)
        for split, share in shares.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "request_id", [f"q{i:06d}" for i in range(len(table))])
    return table


def judge(request, tracks: pd.DataFrame) -> np.ndarray:
    """Grade every track for a request, from 0 (not relevant) to 3. -> (len(tracks),) of int.

    3: the mood asked for and the genre if one was asked for; 2: the mood in another genre; 1: a mood near it on
    the plane in the genre asked for. One less where no singing was asked for and the track is sung. The track
    that the request was worded from is always a 3.
    """
    grades = np.zeros(len(tracks), dtype=int)
    in_genre = (tracks["genre"] == request.genre).to_numpy() | (request.genre == "")
    if request.mood:
        same = (tracks["mood"] == request.mood).to_numpy()
        grades[tracks["mood"].isin(near(request.mood)).to_numpy() & in_genre] = GRADES["near"]
        grades[same] = GRADES["mood"]
        grades[same & in_genre] = GRADES["exact"]
    elif request.genre:
        grades[in_genre] = GRADES["near"]
    if request.instrumental:
        grades = np.maximum(grades - (tracks["instrumentalness"] < 0.5).to_numpy(), 0)
    grades[(tracks["id"] == request.target).to_numpy()] = GRADES["exact"]
    return grades


def _of_split(tracks: pd.DataFrame, split: str, n: int, rng) -> pd.DataFrame:
    if tracks.empty:
        return pd.DataFrame()
    about = tracks.iloc[rng.integers(0, len(tracks), n)].reset_index(drop=True)
    slots = _slots(about, split, rng)
    templates = TEMPLATES[split]
    needs = [{name for _, name, _, _ in Formatter().parse(t) if name} for t in templates]
    has = np.stack([np.all([slots[name] != "" for name in need], axis=0) for need in needs], axis=1)
    # {title} and {tags} are worded from one track alone: the last resort of a track that has no mood and no genre.
    plain = np.array([bool(need & {"title", "tags"}) for need in needs])
    has &= ~(plain & has[:, ~plain].any(axis=1, keepdims=True))
    has[np.ix_(~(about["instrumentalness"] >= 0.5).to_numpy(), [INSTRUMENTAL in t for t in templates])] = False
    which = (rng.random(has.shape) * has).argmax(axis=1)
    text = np.empty(n, dtype=object)
    for i, template in enumerate(templates):
        rows = np.flatnonzero(which == i)
        text[rows] = fill(template, slots, rows)
    asked = [("word" in need or "phrase" in need or "activity" in need, "genre" in need) for need in needs]
    by_mood, by_genre = np.array(asked)[which].T
    table = pd.DataFrame({"text": text, "split": split, "template": np.array(templates, dtype=object)[which]})
    table["mood"] = np.where(by_mood, about["mood"], "")
    table["genre"] = np.where(by_genre, about["genre"], "")
    table["instrumental"] = table["template"].str.contains(INSTRUMENTAL)
    table["target"] = about["id"]
    table["track_ids"], table["grades"] = _judgements(table, tracks, split)
    return table


def _slots(about: pd.DataFrame, split: str, rng) -> dict[str, np.ndarray]:
    """What a request can say of its track; "" where the track does not have it."""
    names = list(MOODS)
    known = about["mood"].isin(names).to_numpy()
    mood = np.array([names.index(m) if m in MOODS else 0 for m in about["mood"]])
    opposite = np.array([_opposite(m) for m in MOODS.values()])[mood]
    out = {
        name: np.where(known, pick(rng, [getattr(m, field)[split] for m in MOODS.values()], mood), "")
        for name, field in (("phrase", "phrases"), ("activity", "activities"))
    }
    words = [m.words[split] for m in MOODS.values()]
    out["word"] = np.where(known, pick(rng, words, mood), about["mood"])
    out["opposite"] = np.where(known, pick(rng, words, opposite), "")
    out["genre"] = about["genre"].to_numpy(dtype=object)
    out["title"] = about["title"].to_numpy(dtype=object)
    tags = about["tags"].map(lambda tags: ", ".join(tags.split(", ")[:3]))
    opening = about["description"].str.split().str[:8].str.join(" ")
    out["tags"] = tags.where(tags != "", opening).to_numpy(dtype=object)
    return out


def _opposite(mood) -> int:
    """The row of the mood farthest from this one on the plane."""
    points = np.array([(m.valence, m.arousal) for m in MOODS.values()])
    return int(np.linalg.norm(points - (mood.valence, mood.arousal), axis=1).argmax())


def _judgements(table: pd.DataFrame, tracks: pd.DataFrame, split: str) -> tuple[list, list]:
    if split == "train":
        return [[target] for target in table["target"]], [[GRADES["exact"]] for _ in table["target"]]
    ids = tracks["id"].to_numpy()
    graded = [judge(request, tracks) for request in table.itertuples()]
    best_first = [np.argsort(-g, kind="stable")[: (g > 0).sum()] for g in graded]
    return [ids[b].tolist() for b in best_first], [g[b].tolist() for g, b in zip(graded, best_first, strict=True)]
