"""What is known of artists whom requests name, also of those that the catalogue lacks: a small part of the index."""

import re
from pathlib import Path

import pandas as pd
from pyarrow.feather import read_table

from lib.core.catalogue import LEADER
from lib.search.names.mentions import Mention
from lib.search.names.words import words

FILE = "artists.feather"  # in a run's index/
FACTS = ("genres", "near")


def names_of(artists: pd.DataFrame) -> dict[str, list[str]]:
    """Return the nicknames of each artist, and the names of bands' leaders: "Olga Venn" of "Olga Venn & The Owls"."""
    leaders: dict[str, list[str]] = {name: [] for name in artists["name"].str.replace(LEADER, r"\1", regex=True)}
    nicknames = artists.get("nicknames", pd.Series("", artists.index))  # runs of older versions have none
    return leaders | dict(zip(artists["name"], nicknames.str.split(";"), strict=True))


def write_artists(folder: Path, artists: pd.DataFrame) -> None:
    """Write what is known of artists into an index/ folder: columns name and `FACTS`, whose cells are joined by ";".

    Nearness goes both ways: X is near Y if either names the other.
    """
    pairs = artists[["name", "near"]].assign(near=artists["near"].str.split(";")).explode("near")
    both = pd.concat([pairs, pairs.set_axis(["near", "name"], axis=1)])
    near = both[both["near"] != ""].drop_duplicates().groupby("name")["near"].agg(";".join)
    table = artists.assign(near=artists["name"].map(near).fillna(""), key=artists["name"].map(_key))
    table[["key", *FACTS]].reset_index(drop=True).to_feather(folder / FILE, compression="uncompressed")


class Artists:
    """The artists of an index/ folder; none if it has no facts of artists."""

    def __init__(self, folder: Path):
        rows = read_table(folder / FILE).to_pylist() if (folder / FILE).exists() else []
        self._facts = {row["key"]: row for row in rows}

    def about(self, mention: Mention, fact: str) -> list[str]:
        """Return one of `FACTS` of an artist: genres, art rock first; [] if it is not known."""
        row = self._facts.get(_key(mention.name), {}) if mention.kind == "artist" else {}
        return list(filter(None, row.get(fact, "").split(";")))


def _key(name: str) -> str:
    """Return an artist's name without case, accents, punctuation, spaces, a leading "The", and the leader's band."""
    folded = words(re.sub(LEADER, r"\1", name))
    return "".join(folded[folded[:1] == ["the"] and len(folded) > 1 :])
