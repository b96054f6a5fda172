"""Names in a request: the catalogue's artists, titles and albums that it mentions, and their tracks.

The index proposes each name that the request's words spell, exactly or nearly. It is a mention if the odds say so
(`odds.py`): rare words need little else; ordinary ones need a cue, quotation marks, capitals, or a request that is
nothing else.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.search.names.index import KINDS, WHOLE, write_names
from lib.search.names.lookup import Match, NameIndex
from lib.search.names.odds import ARTIST, WEIGHTS, Request, features, odds, plain
from lib.search.names.words import hashes, words

__all__ = ["Mention", "Names", "write_names"]

WORDS = 150  # of a request, that are read


class Mention(NamedTuple):
    """A name in a request: text[start:end]."""

    kind: str  # "artist", "title" or "album"
    name: str  # as the catalogue writes it
    start: int
    end: int
    sure: bool = True  # False if the words are as likely a mood or a genre: "happy"


class Candidate(NamedTuple):
    """A match with the odds that it is a mention."""

    match: Match
    kind: int
    odds: float


class Names:
    """The names of a catalogue, as `write_names` wrote them into a folder."""

    def __init__(self, folder: Path):
        self.index = NameIndex(folder)

    def mentions(self, text: str) -> list[Mention]:
        """Return the names that a request mentions, in order; they do not overlap."""
        request = Request(text, WORDS)
        candidates = self._together(_longest(self._candidates(request)), request)
        chosen = []
        for _ in range(3):  # a mention speaks for the names beside it: "X, Y and Z"
            before, chosen = chosen, _best(candidates)
            if chosen == before:
                break
            candidates = [_beside(c, chosen, request) for c in candidates]
        return [self._mention(c, request) for c in sorted(chosen, key=lambda c: c.match.first)]

    def rows(self, mention: Mention) -> np.ndarray:
        """Return the rows of a mention's tracks, in order. -> (m,) of int; empty if the catalogue has no such name."""
        kind = KINDS.index(mention.kind)
        for _, entry, form in self.index.entries(hashes(["".join(words(mention.name))])):
            if form == WHOLE and self.index.kinds[entry] == kind:
                return self.index.rows_of(entry)
        return np.zeros(0, np.int32)

    def artist_of(self, row: int) -> str:
        """Return the artist of a track, as the catalogue writes all of it; "" if none is known."""
        entries = np.searchsorted(self.index.offsets, np.flatnonzero(self.index.rows == row), "right") - 1
        artists = [self.index.names[e].as_py() for e in entries.tolist() if self.index.kinds[e] == ARTIST]
        return max(artists, key=len, default="")

    def _candidates(self, request: Request) -> list[Candidate]:
        """Return the names that the request spells, each with its odds."""
        matches, own = self.index.exact(request.words, request.owners)
        if doubtful := request.doubtful():
            exact = {(m.first, m.last) for m in matches if self.index.kinds[m.entry] == ARTIST}  # "floyd": not Lloyd
            misspelt = self.index.misspelt(request.words, doubtful, own)
            matches += [m for m in misspelt if (m.first, m.last) not in exact]
        entries = np.array([m.entry for m in matches], int)
        counts = self.index.offsets[entries + 1] - self.index.offsets[entries]
        shares = np.log10(np.maximum(counts, 1) / max(1, len(self.index.rows)))
        facts = zip(matches, self.index.kinds[entries].tolist(), shares.tolist(), strict=True)
        known = [(m, kind, features(m, kind, request, share)) for m, kind, share in facts]
        return [Candidate(m, kind, odds(about)) for m, kind, about in known if about]

    def _together(self, candidates: list[Candidate], request: Request) -> list[Candidate]:
        """Raise the odds of titles (or albums) and artists that stand side by side and have a track in common."""
        starts, more = {}, {}
        for c in candidates:
            starts.setdefault(c.match.first, []).append(c)
        for one in candidates:
            for two in starts.get(one.match.last, []) + starts.get(one.match.last + 1, []):
                if (one.kind == ARTIST) == (two.kind == ARTIST):
                    continue
                link = request.link(one.match.last, two.match.first, one.kind == ARTIST)
                near = link and min(one.odds, two.odds) + link > 0
                if near and self._share_a_track(one.match.entry, two.match.entry):
                    more |= {id(c): max(more.get(id(c), 0), link) for c in (one, two)}
        return [c._replace(odds=c.odds + more.get(id(c), 0)) for c in candidates]

    def _share_a_track(self, one: int, other: int) -> bool:
        few, many = sorted((self.index.rows_of(one), self.index.rows_of(other)), key=len)
        at = np.minimum(np.searchsorted(many, few), len(many) - 1)
        return bool((many[at] == few).any())

    def _mention(self, candidate: Candidate, request: Request) -> Mention:
        match = candidate.match
        name = self.index.names[match.entry].as_py()
        places = request.place(match.first, match.last, match.words[-1])
        return Mention(KINDS[candidate.kind], name, *places, not plain(match, candidate.kind, request))


def _longest(candidates: list[Candidate]) -> list[Candidate]:
    """Give a name more odds than the names inside it, of which no word is misspelt less: "DJ Ladder", not "Ladder"."""

    def holds(c: Candidate, other: Candidate) -> bool:
        (first, last, *_), inner = c.match, other.match
        longer = first <= inner.first and inner.last <= last and inner.last - inner.first < last - first
        return longer and c.kind == other.kind and c.match.edits <= inner.edits

    best = (max([c.odds, *(other.odds + 0.01 for other in candidates if holds(c, other))]) for c in candidates)
    return [c._replace(odds=odds) for c, odds in zip(candidates, best, strict=True)]


def _beside(candidate: Candidate, chosen: list[Candidate], request: Request) -> Candidate:
    """Return the candidate with more odds if it is in a list with a chosen one of its kind: "X, Y and Z"."""
    match = candidate.match
    others = [c.match for c in chosen if c.kind == candidate.kind and candidate.odds <= 0]
    if any(request.listed(m.last, match.first) or request.listed(match.last, m.first) for m in others):
        return candidate._replace(odds=candidate.odds + WEIGHTS["listed"])
    return candidate


def _best(candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates of the highest odds that do not overlap."""
    taken, chosen = set(), []
    for candidate in sorted(candidates, key=lambda c: c.odds, reverse=True):
        places = set(range(candidate.match.first, candidate.match.last))
        if candidate.odds > 0 and not places & taken:
            taken |= places
            chosen.append(candidate)
    return chosen
