"""The word index: BM25 over the tracks' texts, kept as the rows of each word. Its files are memory-mapped."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib.search.names.index import expand
from lib.search.names.words import hashes

K1, B = 1.5, 0.75  # of BM25 (Robertson and Zaragoza 2009), the usual ones
COMMON = 50_000  # tracks that the rarest words of a request have, at most: other words only add to their scores
CHUNK = 100_000  # texts split into words at a time
FILES = ("words.npy", "word_starts.npy", "word_rows.npy", "word_scores.npy")  # in index/
# A run of letters and digits, or one character of a script without blanks between words.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
FILLERS = frozenset(
    word for line in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")) for word in line
)


def split(text: str) -> list[str]:
    """Return the words of a text in lower case, without accents and apostrophes."""
    text = text.casefold()
    if not text.isascii():
        letters = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in letters if not unicodedata.combining(c) and c != "’")
    return WORD.findall(text.replace("'", ""))


def shared(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the numbers that two sorted arrays share: in the one, and in the other."""
    if len(one) < len(other):
        return shared(other, one)[::-1]
    if len(one) and one[-1] == len(one) - 1:  # 0, 1, …
        there = np.arange(np.searchsorted(other, len(one)))
        return other[: len(there)], there
    places = np.minimum(np.searchsorted(one, other), len(one) - 1)
    there = np.flatnonzero(one[places] == other)
    return places[there], there


class Words:
    """BM25 scores of a catalogue's words. `words` are sorted hashes; word w has the rows starts[w] to starts[w + 1]."""

    def __init__(self, folder: Path):
        files = (np.load(folder / file, mmap_mode="r").view(np.ndarray) for file in FILES)
        self.words, self.starts, self.rows, self.scores = files

    def find(self, texts: Iterable[str]) -> np.ndarray:
        """Return the positions of the texts' distinct words that the catalogue has and that are no `FILLERS`."""
        words = {word: None for text in texts for word in split(text) if word not in FILLERS}
        keys = hashes(list(words))
        places = np.minimum(np.searchsorted(self.words, keys), max(len(self.words) - 1, 0))
        return places[self.words[places] == keys] if len(self.words) else places[:0]

    def propose(self, found: np.ndarray, k: int) -> np.ndarray:
        """Return the rows of the `k` best tracks for words, in no order.

        The rarest words propose them, as many as have `COMMON` rows together.
        """
        sizes = self.starts[found + 1] - self.starts[found]
        order = np.argsort(sizes)
        spans = [slice(*self.starts[w : w + 2]) for w in found[order][np.cumsum(sizes[order]) <= COMMON]]
        if not spans:
            return np.zeros(0, np.int64)
        rows, scores = (np.concatenate([file[span] for span in spans]) for file in (self.rows, self.scores))
        order = np.argsort(rows, kind="stable")  # a few sorted parts, which take it no time
        first = np.flatnonzero(np.diff(rows[order], prepend=-1))
        rows, scores = rows[order][first], np.add.reduceat(scores[order], first)
        best = np.argpartition(-scores, k - 1)[:k] if k < len(rows) else slice(None)
        return rows[best].astype(np.int64)

    def score(self, found: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the BM25 scores of sorted rows, (m,) of int, for words. -> (m,) float32."""
        scores = np.zeros(len(rows), np.float32)
        for w in found:
            span = slice(self.starts[w], self.starts[w + 1])
            here, there = shared(rows, self.rows[span])
            scores[here] += self.scores[span][there]
        return scores


def write_words(folder: Path, texts: pd.Series, tags: pd.Series | None = None) -> None:
    """Write the word index of texts and tags: BM25 as in Lucene, which bm25s calls "lucene" too.

    Memory holds 5 bytes a word.
    """
    parts, lengths = [], [np.zeros(0, np.int32)]
    for start in range(0, len(texts), CHUNK):
        rows = slice(start, start + CHUNK)
        chunk = texts.iloc[rows] if tags is None else texts.iloc[rows] + " " + tags.iloc[rows].fillna("")
        lists = [split(text) for text in chunk]
        lengths.append(np.array([len(words) for words in lists], np.int32))
        codes, distinct = pd.factorize(np.array([word for words in lists for word in words], dtype=object))
        pairs = codes * CHUNK + np.repeat(np.arange(len(lists)), lengths[-1])
        pairs, times = np.unique(pairs, return_counts=True)  # by word, then by row
        counts = np.bincount(pairs // CHUNK, minlength=len(distinct))
        rows = (start + pairs % CHUNK).astype(np.int32)
        parts.append((hashes(distinct.tolist()), counts, rows, np.minimum(times, 255).astype(np.uint8)))
    lengths = np.concatenate(lengths)
    words, of = np.unique(np.concatenate([np.zeros(0, np.uint64), *(part[0] for part in parts)]), return_inverse=True)
    counts = np.zeros(len(words), np.int64)
    np.add.at(counts, of, np.concatenate([np.zeros(0, int), *(part[1] for part in parts)]))
    starts = np.r_[0, np.cumsum(counts)]
    rarity = np.log1p((len(texts) - counts + 0.5) / (counts + 0.5))
    saturation = K1 * (1 - B + B * lengths / max(lengths.mean() if len(lengths) else 0, 1))
    np.save(folder / FILES[0], words)
    np.save(folder / FILES[1], starts)
    lists = [
        np.lib.format.open_memmap(folder / file, "w+", kind, (int(starts[-1]),))
        for file, kind in zip(FILES[2:], (np.int32, np.float32), strict=True)
    ]
    for keys, counts, rows, times in parts:  # a word's rows of each chunk follow those of the chunk before
        of = np.searchsorted(words, keys)
        places = expand(starts[of], counts)
        starts[of] += counts
        lists[0][places] = rows
        lists[1][places] = np.repeat(rarity[of], counts) * times / (times + saturation[rows])
