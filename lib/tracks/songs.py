"""Songs of a catalogue: plays of one song become one track with a count, versions of one song become a group."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# Endings that name a version: "(Live)", "- 2011 Remaster", "[Deluxe Edition]", "(feat. Ana)".
VERSION = (
    r"(?i) *(?:\(|\[|- )[^(\[]*\b(?:live|remaster(?:ed)?|acoustic|radio edit|demo|mono|stereo|version|edit|mix|remix"
    r"|deluxe|edition|bonus track|instrumental|karaoke|feat\.?|ft\.?|featuring)(?:[ .].*|[)\]].*)?$"
)


def plain(texts: pd.Series) -> pd.Series:
    """Drop case, accents, punctuation and spaces: "Déjà-vu!" and "deja vu" become the same."""
    values = pc.utf8_lower(pa.array(texts.fillna(""), pa.large_string()))
    values = pc.replace_substring(pc.replace_substring(values, "—", ""), "&", "and")  # a track's text has a dash
    if not pc.all(pc.string_is_ascii(values)).as_py():
        values = pc.replace_substring_regex(pc.utf8_normalize(values, "NFKD"), r"\pM+", "")
    values = pc.replace_substring(pc.replace_substring_regex(values, r"[^\pL\pN ]+", ""), " ", "")
    return pd.Series(values, texts.index, dtype="str")


def groups(tracks: pd.DataFrame) -> pd.Series:
    """Return each track's group: the id of the first track of the same song. (n,) -> (n,).

    Two tracks are versions of one song if the first artist and the title are the same but for case, accents,
    punctuation and an ending such as "(Live)". Tracks without a title are grouped by equal descriptions and tags.
    """
    title = plain(_without(tracks["title"], VERSION)).where(lambda t: t != "", plain(tracks["title"]))
    title = title.where(title != "", tracks["title"])  # of punctuation only, such as "?"
    named = plain(_without(tracks["artist"], ", .*")) + "\t" + title
    key = named.where(title != "", tracks["description"] + "\t" + tracks["tags"])
    number, _ = pd.factorize(key)
    first = pd.Series(np.arange(len(key))).groupby(number).transform("first").to_numpy()
    return pd.Series(tracks["id"].to_numpy()[first], tracks.index, dtype="str")


def _without(texts: pd.Series, pattern: str) -> pd.Series:
    values = pc.replace_substring_regex(pa.array(texts, pa.large_string()), pattern, "")
    return pd.Series(values, texts.index, dtype="str")


def hashes(table: pd.DataFrame) -> np.ndarray:
    """Return a 64-bit hash of each row; case does not count. (n, columns) -> (n,)."""
    return pd.util.hash_pandas_object(table.apply(lambda c: c.astype("str").str.lower()), index=False).to_numpy()


class Repeats:
    """The rows read so far, by the hashes of their ids and of their songs: 24 bytes a row, however long the file is."""

    def __init__(self) -> None:
        self.ids = np.array([], dtype=np.uint64)  # of tracks, sorted
        self.first = np.array([], dtype=np.uint64)  # of distinct songs, sorted
        self.songs: list[np.ndarray] = []  # of every row, in order

    def add(self, ids: np.ndarray, songs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add a chunk's rows, each by two hashes. (n,), (n,) -> (n,), (n,).

        Returns:
            Which rows repeat an earlier song, and which others repeat an earlier id.
        """
        repeated = _in_or_before(songs, self.first)
        again = _in_or_before(ids, self.ids) & ~repeated
        new = ~repeated & ~again
        # Two sorted runs: the stable sort only merges them.
        self.ids = np.sort(np.concatenate([self.ids, np.sort(ids[new])]), kind="stable")
        self.first = np.sort(np.concatenate([self.first, np.sort(songs[new])]), kind="stable")
        self.songs.append(songs)
        return repeated, again

    def counts(self, songs: np.ndarray) -> np.ndarray:
        """Return how many rows had each of these songs. (n,) -> (n,)."""
        everything = np.sort(np.concatenate(self.songs))
        return np.searchsorted(everything, songs, side="right") - np.searchsorted(everything, songs)

    def share(self) -> float:
        """Return the share of rows that repeat an earlier song."""
        return 1 - len(self.first) / max(1, sum(map(len, self.songs)))


def _in_or_before(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return which values are in `known`, which is sorted, or stand earlier among the values. -> (n,) of bool."""
    place = np.minimum(np.searchsorted(known, values), max(0, len(known) - 1))
    return pd.Series(values).duplicated().to_numpy() | (known[place] == values if len(known) else False)
