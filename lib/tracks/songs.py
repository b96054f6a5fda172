"""Songs of a catalogue: plays of one song become one track with a count, versions of one song become a group."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# Endings that name a version: "(Live)", "- 2011 Remaster", "[Deluxe Edition]", "(feat. Ana)".
VERSION = (
    r"(?i) *(?:\(|\[|- )[^(\[]*\b(?:live|remaster(?:ed)?|acoustic|radio edit|demo|mono|stereo|version|edit|mix|remix"
    r"|deluxe|edition|bonus track|instrumental|karaoke|feat\.?|ft\.?|featuring)(?:[ .].*|[)\]].*)?$"
)
TEXT = pa.large_string()
# For each byte, the one to keep: a digit or a letter in lower case; 0 for punctuation and bytes beyond ASCII.
_ASCII = np.array([ord(chr(b).lower()) if b < 128 and chr(b).isalnum() else 0 for b in range(256)], np.uint8)
_BEYOND = r"[^\x00-\x7f‐-‧]"  # no ASCII, and no typographic punctuation


def plain(texts: pd.Series) -> pd.Series:
    """Drop case, accents, punctuation and spaces: "Déjà-vu!" and "deja vu" become the same."""
    table = pa.table({"texts": texts.fillna("")}, pa.schema([("texts", TEXT)]))
    with ThreadPoolExecutor() as pool:  # Arrow and NumPy use all cores
        parts = list(pool.map(_plain, (batch.column(0) for batch in table.to_batches(20_000))))
    return pd.Series(pa.chunked_array(parts, TEXT), texts.index, dtype="str")


def _plain(texts: pa.Array) -> pa.Array:
    texts = pc.replace_substring(texts, "&", "and")
    _, ends, letters = texts.buffers()
    letters = _ASCII[np.frombuffer(letters or b"", np.uint8)]
    kept = np.flatnonzero(letters)
    ends = np.searchsorted(kept, np.frombuffer(ends, np.int64))
    plain = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(letters[kept]))
    other = pc.match_substring_regex(texts, _BEYOND)
    values = pc.utf8_normalize(pc.utf8_lower(texts.filter(other)), "NFKD")
    return pc.replace_with_mask(plain, other, pc.replace_substring_regex(values, r"[^\pL\pN]+", ""))


def groups(tracks: pd.DataFrame) -> pd.Series:
    """Return each track's group: the id of the first track of the same song. (n,) -> (n,).

    Two tracks are versions of one song if the first artist and the title are the same but for case, accents,
    punctuation and an ending such as "(Live)". Tracks without a title are grouped by equal descriptions and tags.
    """
    title = plain(_without(tracks["title"], VERSION))
    bare = (title == "").to_numpy()
    title[bare] = plain(tracks["title"][bare]).to_numpy()
    title = title.mask(title == "", tracks["title"])  # of punctuation only, such as "?"
    key = plain(_without(tracks["artist"], ", .*")) + "\t" + title
    bare = (title == "").to_numpy()
    key[bare] = (tracks["description"][bare] + "\t" + tracks["tags"][bare]).to_numpy()
    number, _ = pd.factorize(key)
    first = np.flatnonzero(~pd.Series(number).duplicated())[number]
    return pd.Series(tracks["id"].array[first], tracks.index, dtype="str")


def _without(texts: pd.Series, pattern: str) -> pd.Series:
    return pd.Series(pc.replace_substring_regex(pa.array(texts, TEXT), pattern, ""), texts.index, dtype="str")


def hashes(table: pd.DataFrame) -> np.ndarray:
    """Return a 64-bit hash of each row, the same in one process; case does not count. (n, columns) -> (n,)."""
    columns = [pa.array(table[name].astype("str"), TEXT) for name in table]
    rows = pc.utf8_lower(pc.binary_join_element_wise(*columns, pa.scalar("\x1f", TEXT), null_handling="replace"))
    return np.fromiter(map(hash, rows.to_pylist()), np.int64, len(table))


class Repeats:
    """The rows read so far, by the hashes of their ids and of their songs: 24 bytes a row, however long the file is."""

    def __init__(self) -> None:
        self.ids = np.array([], dtype=np.int64)  # of tracks, sorted
        self.first = np.array([], dtype=np.int64)  # of distinct songs, sorted
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
    distinct, number = np.unique(values, return_inverse=True)  # sorted: their places are near one another, so fast
    place = np.minimum(np.searchsorted(known, distinct), max(0, len(known) - 1))
    seen = known[place] == distinct if len(known) else np.zeros(len(distinct), dtype=bool)
    return pd.Series(values).duplicated().to_numpy() | seen[number]
