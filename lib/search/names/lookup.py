"""Search for a catalogue's names among the words of a request: as written, and with misspelt words."""

from functools import cached_property
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
        self._near = {}

    def rows_of(self, entry: int) -> np.ndarray:
        """Return the rows of an entry's tracks, in order."""
        return self.rows[self.offsets[entry] : self.offsets[entry + 1]]

    def entries(self, texts: list[str]) -> list[tuple[int, int, int]]:
        """Return the number of a text, an entry that it is a key of, and the key's form; for each such entry."""
        numbers = hashes(texts)
        low, high = (np.searchsorted(self.keys, numbers, side) for side in ("left", "right"))
        at = expand(low, high - low)
        text = np.repeat(np.arange(len(texts)), high - low)
        return list(zip(text.tolist(), self.key_entries[at].tolist(), self.key_forms[at].tolist(), strict=True))

    def exact(self, request: list[str], owners: dict[int, str]) -> list[Match]:
        """Return the names that a request's words spell. `owners`: "drake" for the place of "drake's"."""
        spans = []
        for first in range(len(request)):
            for last in {*range(first, min(first + NEAR, len(request))), len(request) - 1}:
                spans.append((first, request[first : last + 1]))
                if last in owners:
                    spans.append((first, [*request[first:last], owners[last]]))
        keyed = self.entries(["".join(span) for _, span in spans])
        return [
            Match(spans[i][0], spans[i][0] + len(spans[i][1]), entry, form, 0, tuple(spans[i][1]))
            for i, entry, form in keyed
        ]

    def misspelt(self, request: list[str], doubtful: list[int]) -> list[Match]:
        """Return the names that the request's words spell if some of the doubtful ones are corrected."""
        places, words, edits = self._spellings(request, doubtful)
        if not edits.any():
            return []
        paths = self._paths(places, hashes(words), edits, len(request))
        texts = [[words[i] for i in path] for _, path, _ in paths]
        keyed = [(i, entry, form) for i, entry, form in self.entries(["".join(t) for t in texts]) if form <= SHORTER]
        least = {}  # edits of the words of a span
        for i, _, _ in keyed:
            span = paths[i][0], len(texts[i])
            least[span] = min(least.get(span, EDITS), paths[i][2])
        return [
            Match(paths[i][0], paths[i][0] + len(texts[i]), entry, form, paths[i][2], tuple(texts[i]))
            for i, entry, form in keyed
            if paths[i][2] == least[paths[i][0], len(texts[i])]
        ]

    def _spellings(self, request: list[str], doubtful: list[int]) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Return words that may stand at places of the request, first its own: (n,) places, n words, (n,) edits."""
        near = {word: self._near.get(word) for word in {request[place] for place in doubtful}}
        if unseen := [word for word, corrections in near.items() if corrections is None]:
            near |= self._corrections(unseen)
            self._near = {} if len(self._near) > CACHED else self._near
            self._near.update(near)
        pairs = [(place, *correction) for place in doubtful for correction in near[request[place]]]
        places, words, edits = zip(*pairs, strict=True) if pairs else ((), (), ())
        places = np.array([*range(len(request)), *places], np.int64)
        return places, [*request, *words], np.array([0] * len(request) + [*edits], np.int64)

    def _corrections(self, typed: list[str]) -> dict[str, list[tuple[str, int]]]:
        """Return the words of names that each word may stand for, with their wrong letters: the best `CORRECTIONS`."""
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
        corrections = {word: [] for word in typed}
        for i in keep[np.lexsort((numbers[keep], edits[keep], owner[keep]))]:
            if len(corrections[own[i]]) < CORRECTIONS:
                corrections[own[i]].append((near[i], int(edits[i])))
        return corrections

    def _paths(self, places: np.ndarray, word_hashes: np.ndarray, costs: np.ndarray, n: int) -> list[tuple]:
        """Return the first place, the spellings and the edits of each misspelt sequence of words that may be a name."""
        by_place, counts = np.argsort(places, kind="stable"), np.bincount(places, minlength=n)
        starts = np.cumsum(counts) - counts
        first, state, edits = np.arange(n), np.full(n, START), np.zeros(n, np.int64)
        path, paths = np.zeros((n, 0), np.int64), []
        for depth in range(min(n, SPAN)):
            inside = np.flatnonzero(first + depth < n)
            place = first[inside] + depth
            before, word = np.repeat(inside, counts[place]), by_place[expand(starts[place], counts[place])]
            state, edits = join_hash(state[before], word_hashes[word]), edits[before] + costs[word]
            keep = np.flatnonzero(edits <= EDITS)
            keep = keep[self._begins(state[keep])]
            first, state, edits = first[before[keep]], state[keep], edits[keep]
            path = np.column_stack([path[before[keep]], word[keep]])
            if not len(first):
                break
            for i in np.flatnonzero((edits > 0) & self._begins(join_hash(state, np.full(len(state), END)))):
                paths.append((int(first[i]), path[i].tolist(), int(edits[i])))
        return paths

    def _begins(self, states: np.ndarray) -> np.ndarray:
        """Return True where a name begins with the sequence, and for a few others. (n,) of uint64 -> (n,) of bool."""
        bit = states >> np.uint64(self._shift)
        return (self.sequences[bit >> np.uint64(3)] >> (bit & np.uint64(7)).astype(np.uint8)) & 1 == 1

    @cached_property
    def _shift(self) -> int:
        return 64 - (8 * len(self.sequences)).bit_length() + 1
