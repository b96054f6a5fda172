"""Requests for an artist or a title of the catalogue, some of them misspelt, and the share of right first tracks."""

import re
import unicodedata

import numpy as np
import pandas as pd

from lib.performance.evaluation import interval
from lib.performance.typed_requests import Ask

WAYS = {
    "artist": (
        *("something by {}", "play some {}", "{} songs", "i wanna hear {}", "anything from {}?", "put on {} please"),
        *("more {} pls", "got any {}", "{}"),
    ),
    "title": (
        *("play {}", "can you play {}", "put on the song {}", "i want to hear {}", "do you have {}", "that song {}"),
        *("{} please", "{}"),
    ),
}
MISSPELT = 3  # one request of so many
SHORTEST = 5  # letters of a name that is misspelt
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ARTISTS = re.compile(r"\s*[;,&]\s*|\s+(?:feat\.?|ft\.?|with|x)\s+", re.IGNORECASE)
BRACKETS = re.compile(r"\s*[(\[].*|\s+-\s.*")  # "Stay (Live)", "Stay - Remastered": people type the title alone


def draw(tracks: pd.DataFrame, n: int = 200, seed: int = 0) -> pd.DataFrame:
    """Word requests for `n` artists and `n` titles of a catalogue, or for all of them if it has fewer.

    Returns:
        Columns kind (artist or title), name, misspelt, text.
    """
    rng = np.random.default_rng(seed)
    artists = tracks["artist"].fillna("").str.split(";").explode().str.strip()
    titles = tracks["title"].fillna("").map(_bare)
    taken = {fold(name) for name in [*artists, *titles]}
    titles = titles[~titles.map(fold).isin(set(artists.map(fold)))]  # "Metallica" asks for the artist
    drawn = []
    for kind, names in (("artist", artists), ("title", titles)):
        readable = [name for name in sorted(set(names)) if any(map(str.isalnum, name))]
        names = rng.permutation(np.array(readable, dtype=object))[:n]
        long = [name for name in names if fold(name).isascii() and sum(map(str.isalpha, name)) >= SHORTEST]
        wrong = set(long[: len(names) // MISSPELT])
        for name in names:
            typed = misspell(name, rng, taken) if name in wrong else name
            drawn.append((kind, name, name in wrong, rng.choice(WAYS[kind]).format(typed)))
    return pd.DataFrame(drawn, columns=["kind", "name", "misspelt", "text"])


def misspell(name: str, rng: np.random.Generator, taken: set[str] = frozenset()) -> str:
    """Return the name in lower case without accents, with one letter swapped, dropped, doubled or replaced.

    The first letter of a word stays. The result is not among `taken`, which holds folded names.
    """
    name = fold(name)
    places = [i for i in range(1, len(name)) if name[i].isalpha() and name[i - 1].isalpha()]
    if not places:  # no word of two letters
        return name
    while True:
        i, letter = rng.choice(places), rng.choice(list(LETTERS))
        before, here, after = name[:i], name[i], name[i + 1 :]
        swapped = after[:1] + here + after[1:] if after[:1].isalpha() else here + after
        edited = before + rng.choice([swapped, after, here + here + after, letter + after])
        if edited != name and edited not in taken:
            return edited


def judge(ask: Ask, tracks: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """Ask the requests of `draw`. A right answer's first track is by the artist, or has the title.

    Returns:
        The requests with the columns right and first ("title — artist" of the first track).
    """
    by_id = tracks.set_index("id")[["title", "artist"]].fillna("")
    rows = []
    for request in requests.itertuples():
        first = next(iter(ask(request.text, 1)), None)
        title, artist = ("", "") if first is None else by_id.loc[first]
        names = [artist, *ARTISTS.split(artist)] if request.kind == "artist" else [title, _bare(title)]
        rows.append((fold(request.name) in map(fold, names), f"{title} — {artist}"))
    return requests.assign(right=[right for right, _ in rows], first=[first for _, first in rows])


def by_kind(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the share of right answers by kind and spelling.

    Returns:
        Index artist, artist misspelt, title, title misspelt; columns requests, share, low and high (95 % bootstrap).
    """
    spellings = judged["kind"] + np.where(judged["misspelt"], " misspelt", "")
    parts = dict(tuple(judged.groupby("kind"))) | dict(tuple(judged[judged["misspelt"]].groupby(spellings)))
    shares = {name: {"requests": len(part), **interval(part["right"])} for name, part in sorted(parts.items())}
    table = pd.DataFrame(shares, index=["requests", "mean", "low", "high"]).T
    return table.astype({"requests": int}).rename(columns={"mean": "share"}).rename_axis("kind")


def fold(name: str) -> str:
    """Return a name in lower case, without accents."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _bare(title: str) -> str:
    """Return a title without what follows it in brackets or after a dash, unless nothing else is left."""
    return BRACKETS.sub("", title).strip() or title.strip()
