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
    return pd.Series(values.to_numpy(zero_copy_only=False), texts.index, dtype="str")


def groups(tracks: pd.DataFrame) -> pd.Series:
    """Return each track's group: the id of the first track of the same song. (n,) -> (n,).

    Two tracks are versions of one song if the first artist and the title are the same but for case, accents,
    punctuation and an ending such as "(Live)". Tracks without a title are grouped by equal descriptions and tags.
    """
    title = tracks["title"].str.replace(VERSION, "", regex=True)
    title = plain(title).where(lambda t: t != "", plain(tracks["title"]))
    title = title.where(title != "", tracks["title"])  # of punctuation only, such as "?"
    named = plain(tracks["artist"].str.replace(", .*", "", regex=True)) + "\t" + title
    key = named.where(title != "", tracks["description"] + "\t" + tracks["tags"])
    number, _ = pd.factorize(key)
    first = pd.Series(np.arange(len(key))).groupby(number).transform("first").to_numpy()
    return pd.Series(tracks["id"].to_numpy()[first], tracks.index, dtype="str")


def hashes(table: pd.DataFrame) -> np.ndarray:
    """Return a 64-bit hash of each row; case does not count. (n, columns) -> (n,)."""
    return pd.util.hash_pandas_object(table.apply(lambda c: c.astype("str").str.casefold()), index=False).to_numpy()


class Repeats:
    """The rows read so far, by the hashes of their ids and of their songs: 16 bytes a row, however long the file is."""

    def __init__(self) -> None:
        self.ids = np.array([], dtype=np.uint64)
        self.songs: list[np.ndarray] = []  # of every row, in order
        self.first = np.array([], dtype=np.uint64)  # of distinct songs

    def add(self, ids: np.ndarray, songs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add a chunk's rows, each by two hashes. (n,), (n,) -> (n,), (n,).

        Returns:
            Which rows repeat an earlier song, and which others repeat an earlier id.
        """
        repeated = pd.Series(songs).duplicated().to_numpy() | np.isin(songs, self.first)
        again = (pd.Series(ids).duplicated().to_numpy() | np.isin(ids, self.ids)) & ~repeated
        self.ids = np.concatenate([self.ids, ids[~repeated & ~again]])
        self.first = np.concatenate([self.first, songs[~repeated & ~again]])
        self.songs.append(songs)
        return repeated, again

    def counts(self, songs: np.ndarray) -> np.ndarray:
        """Return how many rows had each of these songs. (n,) -> (n,)."""
        values, counts = np.unique(np.concatenate(self.songs), return_counts=True)
        return counts[np.searchsorted(values, songs)]

    def share(self) -> float:
        """Return the share of rows that repeat an earlier song."""
        return 1 - len(self.first) / max(1, sum(map(len, self.songs)))
