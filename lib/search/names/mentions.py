"""Names in a request: the catalogue's artists, titles and albums that it mentions, and their tracks.

The index proposes each name that the request's words spell, exactly or nearly. An ordinary word is a mention only with
evidence: the words around it, quotation marks, capitals, or a request that is nothing else.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.search.names.evidence import Request
from lib.search.names.index import KINDS, PART, WHOLE, write_names
from lib.search.names.lookup import Match, NameIndex
from lib.search.names.needs import ARTIST, CERTAIN, NEVER, OWN, SOME, correctable, needed
from lib.search.names.words import words

__all__ = ["Mention", "Names", "open_names", "write_names"]

WORDS = 150  # of a request, that are read
POPULAR = 1e-5  # the share of a catalogue's names that an artist has at least who needs less evidence


class Mention(NamedTuple):
    """A name in a request: text[start:end]."""

    kind: str  # "artist", "title" or "album"
    name: str  # as the catalogue writes it
    start: int
    end: int


class Candidate(NamedTuple):
    """A match with the evidence that it is a mention."""

    match: Match
    kind: int
    evidence: float
    needed: float
    tracks: int

    @property
    def score(self) -> tuple[float, int]:
        """The order of mentions that overlap: long ones first, then by evidence."""
        letters = sum(map(len, self.match.words))
        doubt = 4 * self.match.edits + 4 * (self.match.form >= PART) + 0.3 * self.kind
        weight = 1.5 * letters + 2 * min(self.evidence, CERTAIN + OWN) - doubt
        return weight, self.tracks


class Names:
    """The names of a catalogue."""

    def __init__(self, folder: Path):
        self.index = NameIndex(folder)

    def mentions(self, text: str) -> list[Mention]:
        """Return the names that a request mentions, in order; they do not overlap."""
        request = Request(text, WORDS)
        candidates = _rather_artists(self._candidates(request))
        chosen = []
        for _ in range(3):  # a mention is evidence for the names beside it: "X by Y", "X, Y and Z"
            before = chosen
            chosen = _best([c for c in candidates if c.evidence >= c.needed])
            if chosen == before:
                break
            candidates = [_beside(c, chosen, request) for c in candidates]
        return [self._mention(c, request) for c in sorted(chosen, key=lambda c: c.match.first)]

    def rows(self, mention: Mention) -> np.ndarray:
        """Return the rows of a mention's tracks, in order. -> (m,) of int; empty if the catalogue has no such name."""
        kind = KINDS.index(mention.kind)
        for _, entry, form in self.index.entries(["".join(words(mention.name))]):
            if form == WHOLE and self.index.kinds[entry] == kind:
                return self.index.rows_of(entry)
        return np.zeros(0, np.int32)

    def _candidates(self, request: Request) -> list[Candidate]:
        """Return the names that the request spells, each with its evidence."""
        matches = self.index.exact(request.words, request.owners)
        if doubtful := request.doubtful():
            matches += self.index.misspelt(
                request.words, doubtful, {i for i in doubtful if correctable(request.words[i])}
            )
        entries = np.array([m.entry for m in matches], int)
        counts = self.index.offsets[entries + 1] - self.index.offsets[entries]
        facts = zip(matches, self.index.kinds[entries].tolist(), counts.tolist(), strict=True)
        rare = POPULAR * len(self.index.rows)
        items = [(m, kind, needed(m, kind, *request.typed(m), n < rare), n) for m, kind, n in facts]
        items = [item for item in items if item[2] < NEVER]
        together = self._together(items, request)
        return [
            Candidate(m, kind, max(request.evidence(m.first, m.last, kind), together.get(m, 0)), need, n)
            for m, kind, need, n in items
        ]

    def _together(self, items: list[tuple[Match, int, float, int]], request: Request) -> dict[Match, int]:
        """Return the evidence of titles (or albums) and artists that stand side by side and have a track in common."""
        starts, evidence = {}, {}
        for item in items:
            starts.setdefault(item[0].first, []).append(item)
        for match, kind, need, _ in items:
            for other, other_kind, other_need, _ in starts.get(match.last, []) + starts.get(match.last + 1, []):
                link = request.link(match.last, other.first, kind == ARTIST)
                if (kind == ARTIST) == (other_kind == ARTIST) or link < max(need, other_need):
                    continue
                title = match if other_kind == ARTIST else other
                if len(title.words) == 1 and match.last == other.first and max(need, other_need) > SOME:
                    continue
                if self._share_a_track(match.entry, other.entry):
                    for m in (match, other):
                        evidence[m] = max(evidence.get(m, 0), link)
        return evidence

    def _share_a_track(self, one: int, other: int) -> bool:
        few, many = sorted((self.index.rows_of(one), self.index.rows_of(other)), key=len)
        at = np.minimum(np.searchsorted(many, few), len(many) - 1)
        return bool((many[at] == few).any())

    def _mention(self, candidate: Candidate, request: Request) -> Mention:
        match = candidate.match
        name = self.index.names[match.entry].as_py()
        return Mention(KINDS[candidate.kind], name, *request.place(match.first, match.last, match.words[-1]))


def open_names(folder: Path) -> Names:
    """Open the names that `write_names` wrote into a folder."""
    return Names(folder)


def _rather_artists(candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates; an artist is a mention if a title of the same spelling is one without a cue for titles."""
    exact = [c for c in candidates if not c.match.edits]
    titles = {c.match[:2] for c in exact if c.kind != ARTIST and c.evidence >= c.needed and not c.evidence % 1}
    artists = {id(c) for c in exact if c.kind == ARTIST and c.match[:2] in titles}
    return [c._replace(needed=min(c.needed, c.evidence)) if id(c) in artists else c for c in candidates]


def _beside(candidate: Candidate, chosen: list[Candidate], request: Request) -> Candidate:
    """Return the candidate with more evidence if it is in a list with a chosen one of its kind: "X, Y and Z"."""
    match = candidate.match
    others = [c.match for c in chosen if c.kind == candidate.kind]
    if any(request.listed(m.last, match.first) or request.listed(match.last, m.first) for m in others):
        return candidate._replace(evidence=max(candidate.evidence, 2))
    return candidate


def _best(candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates of the highest scores that do not overlap."""
    taken, chosen = set(), []
    for candidate in sorted(candidates, key=lambda c: c.score, reverse=True):
        places = set(range(candidate.match.first, candidate.match.last))
        if not places & taken:
            taken |= places
            chosen.append(candidate)
    return chosen
