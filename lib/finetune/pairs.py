"""What the encoder is taught: pairs of texts that belong together, in batches of one kind.

Four kinds, each for what the others do not teach:

- registers: a track in prose and in tags, or a few of its words. Keeps the encoder good at text that nobody asked.
- requests: a request and a track that answers it.
- artists: what a listener says of a genre or an artist, and a track by another well-known artist of the genre, by its
  name alone: all that many catalogues have. A batch has one pair of each genre.
- moods: what a listener calls a mood, and how music of that mood sounds, without a word for the mood in it. A batch
  has one pair of each mood, so that every other answer in it is a true negative.
"""

from __future__ import annotations

import re
from collections import deque

import numpy as np
import pandas as pd

from lib.core.errors import WorkbookError
from lib.tracks.columns import decades, document
from lib.tracks.moods import GENRES, MOODS, Genre, Mood, words_of

# Of the pairs of registers, the share of each kind.
REGISTERS = {"three phrases and prose": 0.6, "three tags and prose": 0.35, "prose and tags": 0.05}
JOINED, LONGEST = 0.3, 600  # share of prose that goes on with another track's, and the characters it may have then
FEWEST = 12  # pairs in a batch: fewer are too few negatives
# How a listener names a mood, and how often (weights).
ASKS = {
    "{word} music": 4,
    "{word}": 1.5,
    "{word} song": 1,
    "something {word}": 0.5,
    "something {phrase}": 1,
    "music for {activity}": 1,
    "{word} {genre}": 1,
}
ARTIST_ASKS = (
    *("{genre} music", "{genre}", "songs like {artist}", "{artist}", "artists like {artist}", "{decade} {genre}"),
    *("{word} {genre}", "I like {artist}, what else is there?"),
)
NAMES = {"{title} — {artist} ({album})": 3, "{title} — {artist}": 1, "{artist}": 1}
BY_NAME = 0.15  # share of request pairs whose track is given by its name alone
# Where an answer takes its parts from, and how often (weights).
ANSWERS = {
    "sound": 3,
    "instruments": 1,
    "vocals": 1,
    "genre": 1,
    "genre_instruments": 1,
    "tempo": 0.6,
    "activities": 0.6,
    "said": 0.4,
}


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
    """Draw about `n` training pairs from the training split only.

    Args:
        request_share, mood_share, artist_share: shares of these pairs, 0 to 1 together; the rest are registers.
        batch_size: pairs in a batch of registers or of requests; the others have one of each mood or genre.

    Returns:
        Columns batch (its number; batches are in random order), kind, anchor, positive. In a batch of registers
        or of requests no text is there twice.

    Raises:
        WorkbookError: the catalogue has fewer than two training tracks or no training requests; the shares exceed 1.
    """
    if request_share + mood_share + artist_share > 1:
        raise WorkbookError(
            f"request_share {request_share}, mood_share {mood_share} and artist_share {artist_share} exceed 1 together."
        )
    rng = np.random.default_rng(seed + 2)
    tracks = tracks[tracks["split"] == "train"].set_index("id")
    requests = requests[(requests["split"] == "train") & requests["target"].isin(tracks.index)]
    if len(tracks) < 2 or requests.empty:
        raise WorkbookError(
            f"{len(tracks)} training tracks and {len(requests)} training requests: too few to train on."
        )
    asked, by_mood, by_artist = (round(n * share) for share in (request_share, mood_share, artist_share))
    registers = _registers(tracks.iloc[rng.integers(0, len(tracks), n - asked - by_mood - by_artist)], rng)
    # Texts of like length in a batch: it needs little padding, and length does not give the answer away.
    registers = registers.sort_values("positive", key=lambda text: text.str.len(), kind="stable")
    answered = _requests(requests.iloc[rng.integers(0, len(requests), asked)], tracks, rng)
    batches = [
        *_batches(registers, batch_size),
        *_batches(answered, batch_size),
        *_mood_batches(round(by_mood / len(MOODS)), rng),
        *_artist_batches(round(by_artist / len(GENRES)), tracks, rng),
    ]
    order = rng.permutation(len(batches))
    return pd.concat([batches[b].assign(batch=i) for i, b in enumerate(order)], ignore_index=True)


def _registers(tracks: pd.DataFrame, rng) -> pd.DataFrame:
    """The same track twice: prose and tags; three of its tags, or three phrases cut from its prose, and prose.

    A track without tags has its name for them.
    """
    card = tracks["title"] + " — " + tracks["artist"]
    tags = tracks["tags"].where(tracks["tags"] != "", card)
    prose = tracks["description"].where(tracks["description"] != "", tracks["text"])
    goes_on = rng.random(len(tracks)) < JOINED  # people who describe music say more than three things of it
    both = prose + " " + rng.permutation(prose)
    prose = prose.mask(goes_on & (both.str.len() <= LONGEST), both)
    kind = rng.choice(list(REGISTERS), len(tracks), p=list(REGISTERS.values()))
    anchors = {
        "prose and tags": prose.to_numpy(),
        "three tags and prose": [_three(t, p, rng) for t, p in zip(tags, prose, strict=True)],
        "three phrases and prose": [_phrases(p, rng) for p in prose],
    }
    return pd.DataFrame(
        {
            "kind": kind,
            "anchor": np.select([kind == name for name in anchors], list(anchors.values())),
            "positive": np.where(kind == "prose and tags", [_shuffled(t, rng) for t in tags], prose),
        }
    )


def _phrases(prose: str, rng) -> str:
    """Three phrases of one to three words cut from the prose: what is named must be found, whatever it is."""
    words = [word for word in (token.strip('.,:;!?…/()“”"') for token in prose.split()) if word] or [prose]
    sizes = rng.integers(1, 4, 3)
    starts = rng.integers(0, np.maximum(1, len(words) - sizes + 1))
    return ", ".join(" ".join(words[i : i + n]) for i, n in zip(starts, sizes, strict=True))


def _three(tags: str, prose: str, rng) -> str:
    """Three tags in random order, first those that the prose says too: what it does not say nobody could match."""
    shuffled = _shuffled(tags, rng).split(", ")
    return ", ".join(sorted(shuffled, key=lambda tag: tag.casefold() not in prose.casefold())[:3])


def _shuffled(tags: str, rng) -> str:
    return ", ".join(rng.permutation(tags.split(", ")))


def _requests(requests: pd.DataFrame, tracks: pd.DataFrame, rng) -> pd.DataFrame:
    """A request and its track in one of the ways a catalogue may give it: all its text, description, tags, or name."""
    about = tracks.loc[requests["target"]]
    views = np.stack(
        [about["text"], about["text"], about["description"], about["tags"], document(about.assign(description=""))]
    )
    share = (1 - BY_NAME) / 4
    chosen = views[rng.choice(5, len(about), p=[share, share, share, share, BY_NAME]), np.arange(len(about))]
    positive = np.where(chosen == "", about["text"], chosen)
    only_mood = requests["mood"].where(requests["genre"] == "", "").to_numpy()  # any track of the mood would answer
    return pd.DataFrame(
        {"kind": "request", "anchor": requests["text"].to_numpy(), "positive": positive, "once": only_mood}
    )


def _mood_batches(n: int, rng) -> list[pd.DataFrame]:
    """`n` batches of a pair for each mood."""
    asks = [_asks(mood) for mood in MOODS.values()]
    answers = [_answers(mood) for mood in MOODS.values()]
    return [
        pd.DataFrame(
            {
                "kind": "mood",
                "anchor": [_ask(slots, rng) for slots in asks],
                "positive": [_answer(sources, rng) for sources in answers],
            }
        )
        for _ in range(n)
    ]


def _artist_batches(n: int, tracks: pd.DataFrame, rng) -> list[pd.DataFrame]:
    """`n` batches of a pair for each genre, with titles and albums of the catalogue's own tracks."""
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
    known, other = rng.choice(genre.artists, 2, replace=False)
    year = rng.integers(genre.years[0], genre.years[1] + 1)
    ask = rng.choice(ARTIST_ASKS).format(
        genre=genre.name,
        artist=known,
        decade=decades(pd.Series([str(year)]))[0],
        word=rng.choice(MOODS[rng.choice(genre.moods)].words["train"]),
    )
    return ask.strip(), _drawn(NAMES, 1, rng)[0].format(title=title, artist=other, album=album)


def _asks(mood: Mood) -> dict[str, list[str]]:
    """What fills a slot of `ASKS`."""
    leaning = [genre.name for genre in GENRES.values() if mood.name in genre.moods]
    return {
        "word": mood.words["train"],
        "phrase": mood.phrases["train"],
        "activity": mood.activities["train"],
        "genre": leaning or ["music"],
    }


def _answers(mood: Mood) -> dict[str, list[str]]:
    """What is heard in music of the mood, by the sources of `ANSWERS`; nothing that names a mood."""
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
        "said": [*mood.critics, *mood.listeners],
    }
    bare = {name: [re.sub(r"^(an?|the) ", "", part) for part in parts] for name, parts in sources.items()}
    silent = {
        name: [part for part in parts if not words_of(pd.Series([part]), list(MOODS)).any()]
        for name, parts in bare.items()
    }
    return {name: parts or silent["sound"] for name, parts in silent.items()}


def _ask(slots: dict[str, list[str]], rng) -> str:
    template = _drawn(ASKS, 1, rng)[0]
    return template.format(**{name: rng.choice(choices) for name, choices in slots.items()})


def _answer(sources: dict[str, list[str]], rng) -> str:
    """Two to nine things that are heard."""
    return ", ".join(dict.fromkeys(rng.choice(sources[name]) for name in _drawn(ANSWERS, rng.integers(2, 10), rng)))


def _drawn(weights: dict[str, float], n: int, rng) -> list[str]:
    share = np.array(list(weights.values()))
    return [list(weights)[i] for i in rng.choice(len(weights), n, p=share / share.sum())]


def _batches(pairs: pd.DataFrame, size: int) -> list[pd.DataFrame]:
    """Batches of `size` in the order given; a pair with a text (or a mood in `once`) that the batch has waits.

    What is left at the end makes a batch where it is at least half of one or `FEWEST`, or the only one.
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
