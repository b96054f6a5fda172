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
        spellings = self._spellings(request, doubtful)
        if not spellings.edits.any():
            return []
        paths = self._paths(spellings, len(request))
        texts = [[spellings.words[i] for i in path] for _, path, _ in paths]
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

    def _spellings(self, request: list[str], doubtful: list[int]) -> "Spellings":
        """Return the words that each word of the request may stand for."""
        left_out = [list(deletions(request[place])) for place in doubtful]
        flat = [text for texts in left_out for text in texts]
        keys = (hashes(flat) >> np.uint64(32)).astype(np.uint32)
        low, high = (np.searchsorted(self.deletions, keys, side) for side in ("left", "right"))
        counts = np.minimum(high - low, POSTINGS)
        numbers = self.deletion_words[expand(low, counts)].astype(np.int64)
        owner = np.repeat(np.repeat(np.arange(len(doubtful)), [len(x) for x in left_out]), counts)
        owner, numbers = np.divmod(np.unique(owner * len(self.words) + numbers), max(1, len(self.words)))
        near = self.words.take(pa.array(numbers)).to_pylist()
        typed = [request[doubtful[i]] for i in owner]
        edits = process.cpdist(typed, near, scorer=OSA.distance, dtype=np.int64) if near else np.zeros(0, np.int64)
        limit = np.array([1 + (min(len(a), len(b)) >= LONG) for a, b in zip(typed, near, strict=True)], np.int64)
        keep = np.flatnonzero((edits > 0) & (edits <= limit))
        keep = keep[np.lexsort((numbers[keep], edits[keep], owner[keep]))]
        order = np.arange(len(keep)) - np.searchsorted(owner[keep], owner[keep])
        keep = keep[order < CORRECTIONS]
        places = np.concatenate([np.arange(len(request)), np.array(doubtful, np.int64)[owner[keep]]])
        words = request + [near[i] for i in keep]
        edits = np.concatenate([np.zeros(len(request), np.int64), edits[keep]])
        return Spellings(places, words, edits)

    def _paths(self, spellings: "Spellings", n: int) -> list[tuple[int, list[int], int]]:
        """Return the first place, the spellings and the edits of each misspelt sequence of words that may be a name."""
        by_place = np.argsort(spellings.places, kind="stable")
        counts = np.bincount(spellings.places, minlength=n)
        starts, word_hashes = np.cumsum(counts) - counts, hashes(spellings.words)
        first, state, edits = np.arange(n), np.full(n, START), np.zeros(n, np.int64)
        path, paths = np.zeros((n, 0), np.int64), []
        for depth in range(min(n, SPAN)):
            inside = np.flatnonzero(first + depth < n)
            place = first[inside] + depth
            before, word = np.repeat(inside, counts[place]), by_place[expand(starts[place], counts[place])]
            state, edits = join_hash(state[before], word_hashes[word]), edits[before] + spellings.edits[word]
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


class Spellings(NamedTuple):
    """Words that the words of a request may stand for: first the request's own words."""

    places: np.ndarray  # (n,) of int: the place in the request
    words: list[str]
    edits: np.ndarray  # (n,) of int: wrong letters
