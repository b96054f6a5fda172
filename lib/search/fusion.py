"""The fused search: meaning, words, names and conditions as one score of each track."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.search.artists import Artists
from lib.search.conditions.facts import Facts
from lib.search.index import Filter, Index, bits
from lib.search.match import BANDS, PARTS
from lib.search.names.mentions import Mention, Names
from lib.search.names.words import frequency, words
from lib.search.turn import BEFORE, Reading
from lib.search.words import Words, shared

WORDS = 0.37  # the weight of BM25, in units of the logarithm of the catalogue's size, which bounds a word's score
NAMED = {"artist": 0.4, "title": 0.2, "album": 0.4}  # the share of the distance to 1 that remains if a name matches
NEAR = 0.85  # the same for the tracks of an artist near one who is named
OWN = 2  # tracks of X among the songs like X: real listeners like them, too
MISSED = {"": 0.5, "mood": 0.25}  # the share of the score that an unmet condition removes; the encoder knows moods, too
UNWANTED = 0.2  # the share of the score that remains if an unwanted condition is met
WITHOUT = 0.75  # the share of the score that remains if an instrument is not in the text of the track: "sad piano"
WITH = 0.2  # the same if a negated word is in the text of the track: "no guitar"
MET = 0.3  # the share of the distance to 1 that met conditions close in the score that is shown; moods do not
CLOSE = 0.28  # the best score, below which nothing comes close: 2 % of typed requests, a third of texts on other things
FITTING = 0.5  # the lowest fit that meets a condition
CANDIDATES = 1000  # tracks that meaning and words each propose, in an index with lists


class Query(NamedTuple):
    """A request, ready to search for."""

    vector: np.ndarray  # (d,) float32, a unit vector
    reading: Reading
    words: np.ndarray  # its words' positions in the word index
    unwanted: np.ndarray  # those of its negated words
    absent: np.ndarray = np.zeros(0, np.int64)  # those that no condition stands for: "no guitar"
    instruments: tuple[np.ndarray, ...] = ()  # the forms of each instrument that it names


@dataclass
class Fusion:
    """A catalogue's vectors, words, names and facts, by row."""

    index: Index  # vectors
    words: Words
    names: Names
    facts: Facts
    artists: Artists

    def note(self, query: Query, rows: np.ndarray, scores: list[float]) -> str | None:
        """Return a sentence on an answer of which nothing comes close, or not all meets the conditions."""
        close = bool(scores) and scores[0] >= CLOSE
        if close and scores[0] < BANDS["moderate"] and self._is_strange(query):
            return "No word of this is known here."
        notes = [] if close else ["nothing here comes close"]
        notes += [f"there is nothing {described}" for described in query.reading.missing]
        absent = [m.name for m in query.reading.alike if not len(self.names.rows(m))]
        absent = [name for name in absent if f"by {name}" not in query.reading.missing]
        notes += [f"{name} is not here, these are of like genres" for name in absent]
        if query.reading.skipped:  # "something else", when all tracks of an artist have been shown
            more = [m.name for m in query.reading.named if not np.isin(self.names.rows(m), rows).any()]
            notes += [f"there is nothing more by {name}" for name in more]
        for condition, values in query.reading.wanted.items():
            exact, wish = condition == "genre", " or ".join(values)  # a related genre is not what was asked for
            fits = self.facts.fits(condition, *values, exact=exact, rows=rows)
            missed = 0 if fits is None else int((fits < FITTING).sum())
            if fits is not None and len(rows) and not self.facts.mask(condition, *values, exact=exact).any():
                notes.append(f'no track here fits "{wish}"')
            elif missed and close:
                notes.append(
                    f"{missed} of {len(rows)} {'do' + 'es' * (missed == 1)} not match {wish}, but fit the rest better"
                )
        sentence = "; ".join(notes)
        return f"{sentence[0].upper()}{sentence[1:]}." if notes else None

    def _is_strange(self, query: Query) -> bool:
        """Return True if neither the catalogue nor English has a word of the request, which names nothing."""
        reading = query.reading
        if len(query.words) or reading.named or reading.alike or reading.wanted or reading.unwanted or reading.missing:
            return False
        return not any(frequency(word) for text in reading.texts for word in words(text))

    def score(self, query: Query, rows: np.ndarray, cosine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score tracks, (m,) sorted rows, by meaning, words, names and conditions.

        Meaning is their cosine, (m,), cut at 0. The words that match close a part of its distance to 1, and so does a
        name that is asked for. Then each condition that a track does not meet takes a part of the score away, an
        unwanted one most of it.

        -> (m,) float32, 0 to 1; (m,) of bool, the tracks of an artist, title or album that is asked for; and (4, m)
        float32, the score after each of `PARTS`.
        """
        reading, scale = query.reading, WORDS / np.log1p(len(self.index.vectors))
        of = lambda mention: shared(rows, self.names.rows(mention))[0]  # noqa: E731
        parts = np.empty((len(PARTS), len(rows)), np.float32)
        distance = 1 - np.clip(cosine, 0, 1)
        parts[0] = 1 - distance
        if len(query.words):
            distance *= np.exp(-scale * self.words.score(query.words, rows))
        parts[1] = 1 - distance
        named = np.zeros(len(rows), bool)
        for mention in reading.named:
            own = of(mention)
            distance[own] *= NAMED[mention.kind]
            named[own] = True
        near = shared(rows, self._near(reading))[0]
        distance[near[~named[near]]] *= NEAR
        scores = 1 - distance
        parts[2] = scores
        if len(query.unwanted):
            scores *= np.exp(-scale * self.words.score(query.unwanted, rows))
        if len(query.absent):
            scores[self.words.score(query.absent, rows) > 0] *= WITH
        for forms in query.instruments:
            scores[self.words.score(forms, rows) == 0] *= WITHOUT
        for mention in reading.rejected:
            scores[of(mention)] *= UNWANTED
        for mention in reading.alike if "artist" not in reading.faded else ():  # "songs like X" are not X
            own = of(mention)
            best = np.argsort(-scores[own], kind="stable")
            scores[own[best[OWN if mention.kind == "artist" else 0 :]]] *= UNWANTED
        for condition, values in reading.wanted.items():
            if (fits := self.facts.fits(condition, *values, rows=rows)) is not None:
                cost = MISSED.get(condition, MISSED[""]) * (BEFORE if condition in reading.faded else 1)
                scores *= 1 - cost * (1 - fits)
        for condition, values in reading.unwanted.items():
            for value in values:
                if (fit := self.facts.fits(condition, value, exact=True, rows=rows)) is not None:
                    scores *= 1 - (1 - UNWANTED) * fit
        parts[3] = scores
        return scores, named, parts

    def met(self, reading: Reading, rows: np.ndarray) -> np.ndarray:
        """Return the share of a request's conditions that each track meets, without its moods. -> (m,), 0 to 1."""
        wanted = [(name, values) for name, values in reading.wanted.items() if name not in {"mood", *reading.faded}]
        fits = [self.facts.fits(name, *values, rows=rows) for name, values in wanted]
        missed = [self.facts.fits(name, *of, exact=True, rows=rows) for name, of in reading.unwanted.items()]
        shares = [fit for fit in fits if fit is not None] + [1 - fit for fit in missed if fit is not None]
        return np.mean(shares, axis=0) if shares else np.zeros(len(rows))

    def _near(self, reading: Reading) -> np.ndarray:
        """Return the rows of the artists near those whom a request names, in order. -> (m,) of int."""
        names = [name for m in (*reading.alike, *reading.named) for name in self.artists.about(m, "near")]
        rows = [self.names.rows(Mention("artist", name, 0, 0)) for name in names]
        return np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int32)

    def candidates(self, query: Query, allowed: Filter | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to score, sorted: all, or those that the lists, words, names and conditions propose.

        Beside them their cosine similarities. -> (m,) of int, (m,) float32.
        """
        index = self.index
        if index.lists is None:
            rows = np.arange(len(index.vectors)) if allowed is None else np.flatnonzero(allowed.mask)
            return rows, index.similarities(query.vector, rows)
        propose = partial(index.propose, query.vector, CANDIDATES)
        named = [*map(self.names.rows, query.reading.named)]
        listed = [propose(bits(rows, len(index.vectors))) for rows in named if len(rows) > CANDIDATES]
        if masks := self._masks(query.reading):
            masks += [] if allowed is None else [np.packbits(allowed.mask, bitorder="little")]
            listed.append(propose(np.bitwise_and.reduce(masks)))
        # Also tracks that miss a condition, or of which the catalogue does not know it: the others may fit badly.
        listed.append(propose() if allowed is None else index.nearest(query.vector, CANDIDATES, allowed))
        rows, cosine = map(np.concatenate, zip(*listed, strict=True))
        others = [self.words.propose(query.words, CANDIDATES), self._near(query.reading)[:CANDIDATES]]
        more = np.setdiff1d(np.concatenate([*others, *(some for some in named if len(some) <= CANDIDATES)]), rows)
        rows, first = np.unique(np.concatenate([rows, more]), return_index=True)
        cosine = np.concatenate([cosine, index.similarities(query.vector, more)])[first]
        return (rows, cosine) if allowed is None else (rows[keep := allowed.mask[rows]], cosine[keep])

    def _masks(self, reading: Reading) -> list[np.ndarray]:
        """Return the tracks that meet each condition, as bits."""
        wanted = (self.facts.mask(condition, *values) for condition, values in reading.wanted.items())
        unwanted = (self.facts.mask(condition, *values, exact=True) for condition, values in reading.unwanted.items())
        return [m for m in wanted if m is not None] + [~m for m in unwanted if m is not None]


def open_fusion(folder: Path, index: Index, tracks: pd.DataFrame) -> Fusion:
    """Open the words and names of an index/ folder beside its vectors and its tracks."""
    facts = Facts(tracks.rename(columns={"year": "release_date"}))
    return Fusion(index, Words(folder), Names(folder), facts, Artists(folder))
