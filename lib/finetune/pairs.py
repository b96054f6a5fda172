"""Training pairs: two texts that belong together, in batches of one kind.

Notebook 03 describes the four kinds: views, requests, artists and moods. A batch of moods has one pair for each mood,
so every other positive in it is a true negative. A batch of artists has one pair for each genre. It names the track and
does not describe it, because many catalogues hold only names.
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

    The shares are those of the kinds; they sum to at most 1, and the rest are views. A batch of views or requests has
    `batch_size` pairs, and no text twice.

    Returns:
        Columns batch (a number; the batches are in random order), kind, anchor, positive.

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

    A track without tags has its name instead. Texts of similar length share a batch: length reveals no partner.
    """
    tags = tracks["tags"].where(tracks["tags"] != "", tracks["title"] + " — " + tracks["artist"])
    prose = tracks["description"].where(tracks["description"] != "", tracks["text"])
    join = rng.random(len(tracks)) < JOINED
    both = prose + " " + rng.permutation(prose)
    prose = prose.mask(join & (both.str.len() <= LONGEST), both).to_numpy()
    kind = rng.choice(list(WORDING["views"]), len(tracks), p=list(WORDING["views"].values()))
    three = [_three(t, p, rng) for t, p in zip(tags, prose, strict=True)]
    phrases = [_phrases(p, rng) for p in prose]
    anchor = np.select([kind == "prose and tags", kind == "three tags and prose"], [prose, three], phrases)
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
    once = requests["mood"].where(requests["genre"] == "", "").to_numpy()
    return pd.DataFrame({"kind": "request", "anchor": requests["text"].to_numpy(), "positive": positive, "once": once})


def _mood_batches(n: int, rng) -> list[pd.DataFrame]:
    """Return `n` batches with a pair for each mood."""
    slots, sources = zip(*map(_choices, MOODS.values()), strict=True)
    batches = []
    for _ in range(n):
        anchors = [_mood_request(slot, rng) for slot in slots]
        positives = [_sound(source, rng) for source in sources]
        batches.append(pd.DataFrame({"kind": "mood", "anchor": anchors, "positive": positives}))
    return batches


def _choices(mood: Mood) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the texts for each slot of a mood request, and for each source of a sound.

    A sound is what listeners hear in music of the mood. It has no phrase that names a mood.
    """
    genres = [genre for genre in GENRES.values() if mood.name in genre.moods]
    names = [genre.name for genre in genres]
    words, phrases, activities = (part["train"] for part in (mood.words, mood.phrases, mood.activities))
    tempo = np.mean(mood.tempo)
    sources = {
        "sound": mood.sound,
        "instruments": mood.instruments,
        "vocals": mood.vocals,
        "genre": names,
        "genre_instruments": [instrument for genre in genres for instrument in genre.instruments],
        "tempo": ["slow tempo" if tempo < 90 else "fast tempo" if tempo > 118 else "medium tempo"],
        "activities": activities,
        "reviews": [*mood.critics, *mood.listeners],
    }
    for source, parts in sources.items():
        bare = [re.sub(r"^(an?|the) ", "", part) for part in parts]
        sources[source] = [part for part in bare if not words_of(pd.Series([part]), list(MOODS)).any()]
    sources = {source: parts or sources["sound"] for source, parts in sources.items()}
    return {"word": words, "phrase": phrases, "activity": activities, "genre": names or ["music"]}, sources


def _mood_request(slots: dict[str, list[str]], rng) -> str:
    template = _drawn("mood_requests", 1, rng)[0]
    return template.format(**{name: rng.choice(texts) for name, texts in slots.items()})


def _sound(sources: dict[str, list[str]], rng) -> str:
    """Return two to nine parts of a description of sound."""
    return ", ".join(dict.fromkeys(rng.choice(sources[name]) for name in _drawn("sounds", rng.integers(2, 10), rng)))


def _artist_batches(n: int, tracks: pd.DataFrame, rng) -> list[pd.DataFrame]:
    """Return `n` batches with a pair for each genre; titles and albums are those of the catalogue."""
    named = tracks[(tracks["title"] != "") & (tracks["album"] != "")]
    batches = []
    for _ in range(n if len(named) else 0):
        titles = named.iloc[rng.integers(0, len(named), len(GENRES))]
        rows = [_artist_pair(*row, rng) for row in zip(GENRES.values(), titles["title"], titles["album"], strict=True)]
        batches.append(pd.DataFrame(rows, columns=["anchor", "positive"]).assign(kind="artist"))
    return batches


def _artist_pair(genre: Genre, title: str, album: str, rng) -> tuple[str, str]:
    artist, other = rng.choice(genre.artists, 2, replace=False)
    decade = decades(pd.Series([str(rng.integers(genre.years[0], genre.years[1] + 1))]))[0]
    template = rng.choice(WORDING["artist_requests"])
    word = rng.choice(MOODS[rng.choice(genre.moods)].words["train"])
    request = template.format(genre=genre.name, artist=artist, decade=decade, word=word)
    return request.strip(), _drawn("names", 1, rng)[0].format(title=title, artist=other, album=album)


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
