"""Training pairs: two texts that belong together, in batches of one kind.

Each of the four kinds teaches something that the others do not:

- views: two descriptions of one track, such as three of its tags and its prose. They keep the encoder good at
  matching ordinary text.
- requests: a listener's request and a relevant track.
- artists: a request for a genre or an artist, and a track by another well-known artist of the genre. The track is
  named and not described, because many catalogues hold only names. A batch has one pair for each genre.
- moods: a listener's words for a mood, and a description of its sound that names no mood. A batch has one pair for
  each mood, so every other positive in the batch is a true negative.
"""

import re
from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib.core.errors import WorkbookError
from lib.tracks.columns import decades, document
from lib.tracks.moods import GENRES, MOODS, Genre, Mood, words_of

WORDING = yaml.safe_load(Path(__file__).with_name("pairs.yaml").read_text(encoding="utf-8"))
JOINED = 0.3  # share of prose that is joined with another track's: people describe more than three things
LONGEST = 600  # characters of joined prose
FEWEST = 12  # pairs in a batch: a smaller batch has too few negatives
BY_NAME = 0.15  # share of request pairs that give the track's name alone


def make_pairs(
    tracks: pd.DataFrame,
    requests: pd.DataFrame,
    n: int,
    *,
    request_share: float,
    mood_share: float,
    artist_share: float,
    batch_size: int,
    seed: int,
) -> pd.DataFrame:
    """Draw about `n` training pairs from the training split.

    Args:
        request_share, mood_share, artist_share: shares of the pairs; they sum to at most 1, and the rest are views.
        batch_size: pairs in a batch of views or requests. Batches of moods and artists have one pair for each mood
            or genre.

    Returns:
        Columns batch (a number; the batches are in random order), kind, anchor, positive. No text occurs twice in a
        batch of views or requests.

    Raises:
        WorkbookError: fewer than two training tracks, no training requests, or shares that sum to more than 1.
    """
    if request_share + mood_share + artist_share > 1:
        raise WorkbookError(
            f"request_share {request_share}, mood_share {mood_share} and artist_share {artist_share} sum to more "
            "than 1: lower one of them."
        )
    rng = np.random.default_rng(seed + 2)
    tracks = tracks[tracks["split"] == "train"].set_index("id")
    requests = requests[(requests["split"] == "train") & requests["target"].isin(tracks.index)]
    if len(tracks) < 2 or requests.empty:
        raise WorkbookError(
            f"{len(tracks)} training tracks and {len(requests)} training requests are too few to train on: "
            "raise n_tracks and n_requests, or use a larger catalogue."
        )
    by_request, by_mood, by_artist = (round(n * share) for share in (request_share, mood_share, artist_share))
    views = _views(tracks.iloc[rng.integers(0, len(tracks), n - by_request - by_mood - by_artist)], rng)
    requested = _request_pairs(requests.iloc[rng.integers(0, len(requests), by_request)], tracks, rng)
    batches = [
        *_batches(views, batch_size),
        *_batches(requested, batch_size),
        *_mood_batches(round(by_mood / len(MOODS)), rng),
        *_artist_batches(round(by_artist / len(GENRES)), tracks, rng),
    ]
    order = rng.permutation(len(batches))
    return pd.concat([batches[b].assign(batch=i) for i, b in enumerate(order)], ignore_index=True)


def _views(tracks: pd.DataFrame, rng) -> pd.DataFrame:
    """Pair each track's prose with its tags, three of its tags, or three phrases of the prose, sorted by length.

    A track without tags has its name instead. Texts of similar length share a batch: it needs little padding, and the
    length does not reveal the partner.
    """
    name = tracks["title"] + " — " + tracks["artist"]
    tags = tracks["tags"].where(tracks["tags"] != "", name)
    prose = tracks["description"].where(tracks["description"] != "", tracks["text"])
    join = rng.random(len(tracks)) < JOINED
    both = prose + " " + rng.permutation(prose)
    prose = prose.mask(join & (both.str.len() <= LONGEST), both)
    kind = rng.choice(list(WORDING["views"]), len(tracks), p=list(WORDING["views"].values()))
    anchors = {
        "prose and tags": prose.to_numpy(),
        "three tags and prose": [_three(t, p, rng) for t, p in zip(tags, prose, strict=True)],
        "three phrases and prose": [_phrases(p, rng) for p in prose],
    }
    anchor = np.select([kind == name for name in anchors], list(anchors.values()))
    positive = np.where(kind == "prose and tags", [_shuffled(t, rng) for t in tags], prose)
    pairs = pd.DataFrame({"kind": kind, "anchor": anchor, "positive": positive})
    return pairs.sort_values("positive", key=lambda text: text.str.len(), kind="stable")


def _phrases(prose: str, rng) -> str:
    """Return three phrases of one to three words from the prose."""
    words = [word for word in (token.strip('.,:;!?…/()“”"') for token in prose.split()) if word] or [prose]
    sizes = rng.integers(1, 4, 3)
    starts = rng.integers(0, np.maximum(1, len(words) - sizes + 1))
    return ", ".join(" ".join(words[i : i + n]) for i, n in zip(starts, sizes, strict=True))


def _three(tags: str, prose: str, rng) -> str:
    """Return three tags in random order; tags that occur in the prose come first, since only those can match."""
    shuffled = _shuffled(tags, rng).split(", ")
    return ", ".join(sorted(shuffled, key=lambda tag: tag.casefold() not in prose.casefold())[:3])


def _shuffled(tags: str, rng) -> str:
    return ", ".join(rng.permutation(tags.split(", ")))


def _request_pairs(requests: pd.DataFrame, tracks: pd.DataFrame, rng) -> pd.DataFrame:
    """Pair each request with its track: the whole text, the description, the tags, or the name."""
    about = tracks.loc[requests["target"]]
    name = document(about.assign(description=""))
    views = np.stack([about["text"], about["text"], about["description"], about["tags"], name])
    share = (1 - BY_NAME) / 4
    chosen = views[rng.choice(5, len(about), p=[share, share, share, share, BY_NAME]), np.arange(len(about))]
    positive = np.where(chosen == "", about["text"], chosen)
    # Any track of the mood is relevant to a request that names only a mood, so a batch takes one such request.
    only_mood = requests["mood"].where(requests["genre"] == "", "").to_numpy()
    anchor = requests["text"].to_numpy()
    return pd.DataFrame({"kind": "request", "anchor": anchor, "positive": positive, "once": only_mood})


def _mood_batches(n: int, rng) -> list[pd.DataFrame]:
    """Return `n` batches with a pair for each mood."""
    slots = [_slots(mood) for mood in MOODS.values()]
    sources = [_sound_sources(mood) for mood in MOODS.values()]
    batches = []
    for _ in range(n):
        anchors = [_mood_request(choices, rng) for choices in slots]
        positives = [_sound(parts, rng) for parts in sources]
        batches.append(pd.DataFrame({"kind": "mood", "anchor": anchors, "positive": positives}))
    return batches


def _slots(mood: Mood) -> dict[str, list[str]]:
    """Return the choices for each slot of a mood request."""
    genres = [genre.name for genre in GENRES.values() if mood.name in genre.moods] or ["music"]
    words, phrases, activities = (part["train"] for part in (mood.words, mood.phrases, mood.activities))
    return {"word": words, "phrase": phrases, "activity": activities, "genre": genres}


def _mood_request(slots: dict[str, list[str]], rng) -> str:
    template = _drawn("mood_requests", 1, rng)[0]
    return template.format(**{name: rng.choice(choices) for name, choices in slots.items()})


def _artist_batches(n: int, tracks: pd.DataFrame, rng) -> list[pd.DataFrame]:
    """Return `n` batches with a pair for each genre; titles and albums are those of the catalogue."""
    named = tracks[(tracks["title"] != "") & (tracks["album"] != "")]
    if named.empty:
        return []
    batches = []
    for _ in range(n):
        titles = named.iloc[rng.integers(0, len(named), len(GENRES))]
        rows = [_artist_pair(*row, rng) for row in zip(GENRES.values(), titles["title"], titles["album"], strict=True)]
        batches.append(pd.DataFrame(rows, columns=["anchor", "positive"]).assign(kind="artist"))
    return batches


def _artist_pair(genre: Genre, title: str, album: str, rng) -> tuple[str, str]:
    artist, other = rng.choice(genre.artists, 2, replace=False)
    year = rng.integers(genre.years[0], genre.years[1] + 1)
    request = rng.choice(WORDING["artist_requests"]).format(
        genre=genre.name,
        artist=artist,
        decade=decades(pd.Series([str(year)]))[0],
        word=rng.choice(MOODS[rng.choice(genre.moods)].words["train"]),
    )
    return request.strip(), _drawn("names", 1, rng)[0].format(title=title, artist=other, album=album)


def _sound_sources(mood: Mood) -> dict[str, list[str]]:
    """Return what listeners hear in music of the mood, by source, without the phrases that name a mood."""
    genres = [genre for genre in GENRES.values() if mood.name in genre.moods]
    slow, fast = np.mean(mood.tempo) < 90, np.mean(mood.tempo) > 118
    sources = {
        "sound": mood.sound,
        "instruments": mood.instruments,
        "vocals": mood.vocals,
        "genre": [genre.name for genre in genres],
        "genre_instruments": [instrument for genre in genres for instrument in genre.instruments],
        "tempo": ["slow tempo" if slow else "fast tempo" if fast else "medium tempo"],
        "activities": mood.activities["train"],
        "reviews": [*mood.critics, *mood.listeners],
    }
    for name, parts in sources.items():
        bare = [re.sub(r"^(an?|the) ", "", part) for part in parts]
        sources[name] = [part for part in bare if not words_of(pd.Series([part]), list(MOODS)).any()]
    return {name: parts or sources["sound"] for name, parts in sources.items()}


def _sound(sources: dict[str, list[str]], rng) -> str:
    """Return two to nine parts of a description of sound."""
    return ", ".join(dict.fromkeys(rng.choice(sources[name]) for name in _drawn("sounds", rng.integers(2, 10), rng)))


def _drawn(forms: str, n: int, rng) -> list[str]:
    """Draw `n` of the forms in pairs.yaml by their weights."""
    weights = WORDING[forms]
    share = np.array(list(weights.values()))
    return [list(weights)[i] for i in rng.choice(len(weights), n, p=share / share.sum())]


def _batches(pairs: pd.DataFrame, size: int) -> list[pd.DataFrame]:
    """Split pairs into batches of `size`, in order.

    A pair waits for a later batch if its batch already has one of its texts, or its mood in the column `once`.
    The remainder becomes a batch if it has at least half of `size`, or `FEWEST` pairs, or if it is the only batch.
    """
    waiting, batches = deque(pairs.to_dict("records")), []
    while waiting:
        batch, later, seen = [], [], set()
        while waiting and len(batch) < size:
            pair = waiting.popleft()
            texts = {pair["anchor"], pair["positive"], pair.get("once") or pair["anchor"]}
            if texts & seen:
                later.append(pair)
            else:
                batch.append(pair)
                seen |= texts
        if batches and len(batch) < min(size / 2, FEWEST):
            break
        batches.append(pd.DataFrame(batch)[["kind", "anchor", "positive"]])
        waiting.extendleft(reversed(later))
    return batches
