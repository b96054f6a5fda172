"""Search for a catalogue's names among the words of a request: as written, and with misspelt words."""

from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import feather
from rapidfuzz import process
from rapidfuzz.distance import OSA

from lib.search.names.index import ARRAYS, END, FOLDER, SHORTER, SPAN, START, expand
from lib.search.names.words import LONG, deletions, hashes, join_hash

NEAR = 12  # words of a name at most, unless the request ends with it
EDITS = 2  # letters that may be wrong in a name
POSTINGS = 48  # words, the most frequent first, that are compared with a word for each place of a wrong letter
CORRECTIONS = 32  # words that a misspelt word may stand for
CACHED = 50_000  # words whose corrections are kept


class Match(NamedTuple):
    """A name among the words first, …, last - 1 of a request."""

    first: int
    last: int
    entry: int
    form: int  # of the name: WHOLE, …
    edits: int  # wrong letters
    words: tuple[str, ...]  # the name's words


class NameIndex:
    """The files that `write_names` wrote, memory-mapped."""

    def __init__(self, folder: Path):
        folder = Path(folder) / FOLDER
        for name in ARRAYS:
            setattr(self, name, np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray))
        self.names = feather.read_table(folder / "names.feather", memory_map=True)["text"].combine_chunks()
        self.words = feather.read_table(folder / "words.feather", memory_map=True)["text"].combine_chunks()
        self._near, self._shift = {}, np.uint64(65 - (8 * len(self.sequences)).bit_length())

    def rows_of(self, entry: int) -> np.ndarray:
        """Return the rows of an entry's tracks, in order."""
        return self.rows[self.offsets[entry] : self.offsets[entry + 1]]

    def entries(self, keys: np.ndarray) -> list[tuple[int, int, int]]:
        """Return the place of a text's hash, an entry that it is a key of, and the key's form; for each such entry."""
        low, high = (np.searchsorted(self.keys, keys, side) for side in ("left", "right"))
        at = expand(low, high - low)
        place = np.repeat(np.arange(len(keys)), high - low)
        return list(zip(place.tolist(), self.key_entries[at].tolist(), self.key_forms[at].tolist(), strict=True))

    def exact(self, request: list[str], owners: dict[int, str]) -> tuple[list[Match], list[int]]:
        """Return the names that words spell, and the words' hashes. `owners`: "drake" for the place of "drake's"."""
        spans, alone = [], []
        for first in range(len(request)):
            alone.append(len(spans))
            for last in {*range(first, min(first + NEAR, len(request))), len(request) - 1}:
                spans.append((first, request[first : last + 1]))
                if last in owners:
                    spans.append((first, [*request[first:last], owners[last]]))
        keys = hashes(["".join(span) for _, span in spans])
        matches = [
            Match(spans[i][0], spans[i][0] + len(spans[i][1]), entry, form, 0, tuple(spans[i][1]))
            for i, entry, form in self.entries(keys)
        ]
        return matches, keys[alone].tolist()

    def misspelt(self, request: list[str], doubtful: list[int], own: list[int]) -> list[Match]:
        """Return the names that the request's words, with hashes `own`, spell if some doubtful ones are corrected."""
        near = {word: self._near.get(word) for word in {request[place] for place in doubtful}}
        if unseen := [word for word, corrections in near.items() if corrections is None]:
            near |= self._corrections(unseen)
            self._near = {} if len(self._near) > CACHED else self._near
            self._near.update(near)
        spelled = [[(word, key, 0)] for word, key in zip(request, own, strict=True)]
        for place in doubtful:
            spelled[place] += near[request[place]]
        words, keys, edits = zip(*chain(*spelled), strict=True)
        if not any(edits):
            return []
        paths = self._paths(np.array(keys, np.uint64), np.array(edits), np.array([*map(len, spelled), 0]))
        texts = [[words[i] for i in path] for _, path, _ in paths]
        keyed = [x for x in self.entries(hashes(["".join(text) for text in texts])) if x[2] <= SHORTER]
        least = {}  # edits of the words of a span
        for i, _, _ in keyed:
            span = paths[i][0], len(texts[i])
            least[span] = min(least.get(span, EDITS), paths[i][2])
        return [
            Match(paths[i][0], paths[i][0] + len(texts[i]), entry, form, paths[i][2], tuple(texts[i]))
            for i, entry, form in keyed
            if paths[i][2] == least[paths[i][0], len(texts[i])]
        ]

    def _corrections(self, typed: list[str]) -> dict[str, list[tuple[str, int, int]]]:
        """Return the words of names that each word may stand for, with hashes and wrong letters: the best ones."""
        left_out = [list(deletions(word)) for word in typed]
        flat = [text for texts in left_out for text in texts]
        keys = (hashes(flat) >> np.uint64(32)).astype(np.uint32)
        low, high = (np.searchsorted(self.deletions, keys, side) for side in ("left", "right"))
        counts = np.minimum(high - low, POSTINGS)
        numbers = self.deletion_words[expand(low, counts)].astype(np.int64)
        owner = np.repeat(np.repeat(np.arange(len(typed)), [len(x) for x in left_out]), counts)
        owner, numbers = np.divmod(np.unique(owner * len(self.words) + numbers), max(1, len(self.words)))
        near, own = self.words.take(pa.array(numbers)).to_pylist(), [typed[i] for i in owner]
        edits = process.cpdist(own, near, scorer=OSA.distance, dtype=np.int64) if near else np.zeros(0, np.int64)
        limit = np.array([1 + (min(len(a), len(b)) >= LONG) for a, b in zip(own, near, strict=True)], np.int64)
        keep = np.flatnonzero((edits > 0) & (edits <= limit))
        order = keep[np.lexsort((numbers[keep], edits[keep], owner[keep]))].tolist()
        corrections = {word: [] for word in typed}
        for i, key in zip(order, hashes([near[i] for i in order]).tolist(), strict=True):
            if len(corrections[own[i]]) < CORRECTIONS:
                corrections[own[i]].append((near[i], key, int(edits[i])))
        return corrections

    def _paths(self, keys: np.ndarray, costs: np.ndarray, counts: np.ndarray) -> list[tuple[int, list[int], int]]:
        """Return the first place, the spellings and the edits of each misspelt sequence of words that may be a name.

        The spellings have these hashes and edits; `counts`: how many each place has, and 0 after the last.
        """
        starts, first = np.cumsum(counts) - counts, np.repeat(np.arange(len(counts)), counts)
        state, edits, path, paths = join_hash(START, keys), costs, np.arange(len(keys))[:, None], []
        for depth in range(1, SPAN + 1):
            begins, ends = self._begins(np.array([state, join_hash(state, END)]))
            keep = (begins & (edits <= EDITS)).nonzero()[0]
            first, state, edits, path = first[keep], state[keep], edits[keep], path[keep]
            for i in (ends[keep] & (edits > 0)).nonzero()[0].tolist():
                paths.append((int(first[i]), path[i].tolist(), int(edits[i])))
            more = counts[first + depth]
            if not more.any():
                break
            before, word = np.repeat(np.arange(len(first)), more), expand(starts[first + depth], more)
            first, state, edits = first[before], join_hash(state[before], keys[word]), edits[before] + costs[word]
            path = np.concatenate([path[before], word[:, None]], axis=1)
        return paths

    def _begins(self, states: np.ndarray) -> np.ndarray:
        """Return True where a name begins with the sequence, and for a few others. uint64 -> bool of the same shape."""
        bit = states >> self._shift
        return (self.sequences[bit >> np.uint64(3)] >> (bit & np.uint64(7)).astype(np.uint8)) & 1 == 1
