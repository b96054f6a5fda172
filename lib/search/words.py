"""The word index: BM25 over the tracks' texts, kept as the rows of each word. Its files are memory-mapped."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

K1, B = 1.5, 0.75  # of BM25 (Robertson and Zaragoza 2009), the usual ones
COMMON = 200_000  # tracks with a word, beyond which the word proposes no track: it only adds to the scores of others
CHUNK = 100_000  # texts split into words at a time
FILES = ("words.npy", "word_starts.npy", "word_rows.npy", "word_scores.npy")  # in index/
# A run of letters and digits, or one character of a script without blanks between words.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
FILLERS = frozenset(
    word for line in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")) for word in line
)


def split(text: str) -> list[str]:
    """Return the words of a text in lower case, without accents and apostrophes."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return WORD.findall("".join(c for c in letters if not unicodedata.combining(c) and c not in "'’"))


class Words:
    """BM25 scores of a catalogue's words. `words` are sorted hashes; word w has the rows starts[w] to starts[w + 1]."""

    def __init__(self, folder: Path):
        self.words, self.starts, self.rows, self.scores = (np.load(folder / file, mmap_mode="r") for file in FILES)
        self.starts = np.array(self.starts)

    def find(self, texts: Iterable[str]) -> np.ndarray:
        """Return the positions of the texts' distinct words that the catalogue has and that are no `FILLERS`."""
        words = {word: None for text in texts for word in split(text) if word not in FILLERS}
        hashes = _hashes(list(words))
        places = np.minimum(np.searchsorted(self.words, hashes), max(len(self.words) - 1, 0))
        return places[self.words[places] == hashes] if len(self.words) else places[:0]

    def propose(self, found: np.ndarray, k: int) -> np.ndarray:
        """Return the rows of the `k` best tracks for words, in no order. Words in over `COMMON` tracks propose none."""
        rare = [w for w in found if self.starts[w + 1] - self.starts[w] <= COMMON]
        if not rare:
            return np.zeros(0, np.int64)
        spans = [slice(self.starts[w], self.starts[w + 1]) for w in rare]
        rows, which = np.unique(np.concatenate([self.rows[s] for s in spans]), return_inverse=True)
        scores = np.bincount(which, np.concatenate([self.scores[s] for s in spans]))
        best = np.argpartition(-scores, k - 1)[:k] if k < len(rows) else slice(None)
        return rows[best].astype(np.int64)

    def score(self, found: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the BM25 scores of sorted rows, (m,) of int, for words. -> (m,) float32."""
        scores = np.zeros(len(rows), np.float32)
        for w in found:
            own = self.rows[self.starts[w] : self.starts[w + 1]]
            few, many = (own, rows) if len(own) < len(rows) else (rows, own)
            places = np.minimum(np.searchsorted(many, few), len(many) - 1)
            same = many[places] == few
            here, there = (places[same], same) if few is own else (same, places[same])
            scores[here] += self.scores[self.starts[w] : self.starts[w + 1]][there]
        return scores


def write_words(folder: Path, texts: pd.Series) -> None:
    """Write the word index of texts: BM25 as in Lucene, which bm25s calls "lucene" too."""
    hashes, rows, lengths = [], [], []
    for start in range(0, len(texts), CHUNK):
        lists = [split(text) for text in texts.iloc[start : start + CHUNK]]
        lengths.append(np.array([len(words) for words in lists], np.int32))
        hashes.append(_hashes([word for words in lists for word in words]))
        rows.append(np.repeat(np.arange(start, start + len(lists), dtype=np.int32), lengths[-1]))
    hashes, rows, lengths = (np.concatenate(part) if part else np.zeros(0, int) for part in (hashes, rows, lengths))
    order = np.lexsort((rows, hashes))
    hashes, rows = hashes[order], rows[order]
    first = np.flatnonzero(np.r_[True, (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])][: len(rows)])
    times = np.diff(np.r_[first, len(rows)])
    hashes, rows = hashes[first], rows[first]
    words, starts, counts = np.unique(hashes, return_index=True, return_counts=True)
    rarity = np.repeat(np.log1p((len(texts) - counts + 0.5) / (counts + 0.5)), counts)
    length = lengths[rows] / max(lengths.mean(), 1) if len(rows) else 0
    scores = (rarity * times / (times + K1 * (1 - B + B * length))).astype(np.float32)
    for file, values in zip(FILES, (words, np.r_[starts, len(rows)], rows, scores), strict=True):
        np.save(folder / file, values)


def _hashes(words: list[str]) -> np.ndarray:
    return pd.util.hash_array(np.array(words, dtype=object)) if words else np.zeros(0, np.uint64)
