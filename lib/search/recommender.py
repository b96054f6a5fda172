"""The recommender: a run's tuned encoder and its index of the catalogue. Text in, tracks out, without HTTP."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from weakref import proxy

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow.feather import read_table

from lib.core.encoder import Form, contributions, embed
from lib.core.errors import WorkbookError
from lib.core.files import fingerprint
from lib.core.paths import shown
from lib.core.runs import need
from lib.search.conditions.vocabulary import instruments_of
from lib.search.encoders import open_form
from lib.search.fusion import MET, Fusion, Query, open_fusion
from lib.search.index import SHOWN, TRACKS, open_index, top
from lib.search.integrity import AGAIN, READ_ERRORS, forms, read_index
from lib.search.match import band
from lib.search.names.words import hashes
from lib.search.query import read
from lib.search.turn import Reading
from lib.search.words import FILLERS, split

# Rocchio's weights (Manning, Raghavan, Schütze 2008, section 9.1.1) of liked and disliked tracks. Heavier weights gain
# little and leave the text less influence. benchmarks/search.py measures them, and the default diversity.
LIKED, DISLIKED = 1.5, 0.3
ALIKE = 0.5  # the weight of the tracks of a name that stands for others like it: "songs like X"
DIVERSITY = 0.05
POOL = 10  # times top_k: the best tracks that diversity chooses from
CHUNK = 100_000  # ids that are hashed at a time
CENTRED = 10_000  # tracks of a mood, beyond which a sample gives its centre
READ = 64  # readings that are kept: a request among several is read before they are encoded, and again to answer it
REASONS = 3  # words and moods that explain a track


@dataclass
class Recommender:
    """An encoder and a catalogue: its vectors, words, names and facts."""

    model: Form  # of the tuned encoder, to encode queries; or a SentenceTransformer
    fusion: Fusion  # the vectors, words, names and facts of the tracks
    tracks: pd.DataFrame  # the n tracks, in the order of the index's rows
    fingerprints: dict[str, str]  # SHA-256 of the model, of the form (encoder) and of the index

    def __post_init__(self) -> None:
        self.shown = {name: _reader(self.tracks[name]) for name in SHOWN}
        self.index = self.fusion.index
        self.mood, self.moods = _codes(self.tracks["mood"])
        self.artist, _ = _codes(self.tracks["artist"])
        self._read = lru_cache(READ)(partial(read, self.fusion.names, self.fusion.facts, self.fusion.artists))
        own = proxy(self)  # a cache that refers to its owner keeps the closed run in memory until a garbage collection
        self._filter = cache(lambda mood: own.index.only(own.mood == own.moods.index(mood)))

    @property
    def vectors(self) -> np.ndarray:
        """(n, d) float32 unit vectors, memory-mapped."""
        return self.index.vectors

    def rows(self, ids) -> np.ndarray:
        """Return the rows of tracks. (m,) of str -> (m,) of int. A KeyError lists unknown ids."""
        if not (ids := list(ids)):
            return np.zeros(0, np.int64)
        keys, order = self._ids
        rows = order[np.minimum(np.searchsorted(keys, hashes(ids)), len(keys) - 1)]
        if unknown := [a for a, b in zip(ids, map(self.shown["id"], rows.tolist()), strict=True) if a != b]:
            raise KeyError(unknown)
        return rows

    def recommend(
        self, text: str, top_k: int = 5, mood: str | None = None, liked=(), disliked=(), diversity: float = DIVERSITY,
        history=(),
    ) -> pd.DataFrame:  # fmt: skip
        """Return the tracks for a query as a table: `query`, then `search`, which explain the arguments."""
        query = self.query(self.read(text, history), liked, disliked)
        tracks = self.search(query, top_k, mood, without=[*liked, *disliked], diversity=diversity)
        return pd.DataFrame(tracks, columns=[*SHOWN, "score", "match"])

    def read(self, text: str, history=()) -> Reading:
        """Read a request by the catalogue's names and conditions; `history`: the turns before it, oldest first."""
        return self._read(text, tuple(history))

    def encode(self, texts: list[str]) -> np.ndarray:
        """Encode texts in one batch, unless their vectors would depend on the batch. -> (n, d) float32."""
        return embed(self.model, texts)

    def query(self, reading: Reading, liked=(), disliked=(), vectors: dict[str, np.ndarray] | None = None) -> Query:
        """Return a query: its vector is that of its turns, moved towards liked tracks and away from disliked ones.

        A caller that has encoded `reading.texts` already passes their `vectors`, text: (d,).

        Raises:
            KeyError: it lists the liked and disliked ids that are not in the catalogue.
            ValueError: the encoder reads nothing in the text, and no track is liked.
        """
        self.rows([*liked, *disliked])  # raises an error that has all unknown ids
        if not vectors or not all(text in vectors for text in reading.texts):
            vectors = dict(zip(reading.texts, self.encode(reading.texts), strict=True))
        moved = reading.weights @ np.array([vectors[text] for text in reading.texts])
        alike = [self.fusion.names.rows(mention)[:CENTRED] for mention in reading.alike]
        if alike and len(rows := np.unique(np.concatenate(alike))):
            moved = moved + ALIKE * self.index.at(rows).mean(axis=0)
        for ids, weight in ((liked, LIKED), (disliked, -DISLIKED)):
            if len(ids):
                moved = moved + weight * self.index.at(self.rows(dict.fromkeys(ids))).mean(axis=0)
        if not np.isfinite(length := np.linalg.norm(moved)):
            raise WorkbookError("the index holds vectors that are not numbers: make index again")
        if not length:
            raise ValueError("the text has no letter, digit or sign that the encoder knows")
        words, unwanted = map(self.fusion.words.find, (reading.texts, reading.negated))
        if len(unwanted):
            unwanted = np.setdiff1d(unwanted, self.fusion.words.find(reading.texts[:1]))
            words = np.setdiff1d(words, unwanted)
        plain = [phrase for phrase in reading.negated if not self.fusion.facts.vocabulary.reads(phrase)]
        absent = self.fusion.words.find(form for phrase in plain for form in (phrase, f"{phrase}s", phrase.rstrip("s")))
        absent = np.setdiff1d(absent, self.fusion.words.find(reading.texts[:1]))
        instruments = (np.setdiff1d(self.fusion.words.find(forms), unwanted) for forms in instruments_of(reading.texts))
        return Query(moved / length, reading, words, unwanted, absent, tuple(filter(len, instruments)))

    def search(
        self, query: Query, top_k: int = 5, mood: str | None = None, without=(), diversity: float = DIVERSITY
    ) -> list[dict]:
        """Return the `top_k` tracks that fit a query and differ from each other, best first.

        Maximal marginal relevance (Carbonell and Goldstein 1998) chooses them among the `POOL` × `top_k` best. A
        chosen track also counts against the other tracks of its artist, unless the request names the artist.

        Args:
            mood: only tracks of this mood. ValueError if no track has it.
            without: ids of tracks to leave out.
            diversity: 0 for the best tracks, up to 1 for the least alike of the pool.

        Returns:
            For each track: `SHOWN`, row, fused (the score that chose it), score (0 to 1, never rising; met conditions
            raise it), match (its band), parts (the score after each).
        """
        allowed = None if mood is None else self._filter(mood)
        rows, cosine = self.fusion.candidates(query, allowed)
        if len(without):
            keep = ~np.isin(rows, self.rows(without))
            rows, cosine = rows[keep], cosine[keep]
        return self.choose(query, rows, cosine, top_k, diversity)

    def choose(
        self, query: Query, rows: np.ndarray, cosine: np.ndarray, top_k: int, diversity: float,
        lift: np.ndarray | int = 0,
    ) -> list[dict]:  # fmt: skip
        """Return `top_k` of some rows, as `search` does: (m,) of int, sorted, with their cosine similarities, (m,).

        `lift`: (m,) to add to the score when tracks are chosen. The answer's order and its scores are without it.
        """
        scores, named, parts = self.fusion.score(query, rows, cosine)
        values = scores + lift
        best = top(values, POOL * top_k)
        rows, scores, named, values = rows[best], scores[best], named[best], values[best]
        artist = self.artist[rows]
        if len(query.reading.named) < 2:  # of "X or Y" both are shown
            artist = np.where(named, -1, artist)
        seen = top_k * min(query.reading.skipped, POOL - 1)  # tracks of the answers before
        chosen = self._diversify(rows, values, artist, seen + top_k, diversity)[-top_k:]
        chosen = sorted(chosen, key=lambda i: (-scores[i], i))
        tracks = [{name: of(row) for name, of in self.shown.items()} | {"row": row} for row in rows[chosen].tolist()]
        fused, parts = scores[chosen].tolist(), parts[:, best[chosen]]
        # Met conditions raise the score that is shown, not the order: real listeners' turns lost 5 % by that.
        parts[-1] += MET * (1 - parts[-1]) * self.fusion.met(query.reading, rows[chosen])
        parts[-1] = np.minimum.accumulate(parts[-1])
        marks = np.clip(parts[-1], 0, 1).astype(float).round(4).tolist()
        rated = zip(tracks, fused, marks, parts.T.tolist(), strict=True)
        return [t | {"fused": f, "score": mark, "match": band(mark), "parts": part} for t, f, mark, part in rated]

    def note(self, query: Query, tracks: list[dict]) -> str | None:
        """Return a sentence on an answer in which nothing comes close, or tracks miss a condition; None otherwise."""
        return self.fusion.note(query, np.array([t["row"] for t in tracks], int), [t["fused"] for t in tracks])

    def explain(self, query: Query, ids: list[str]) -> list[dict]:
        """Explain why tracks fit a query, by the words of their text and by moods.

        If the encoder averages over tokens, as MiniLM and MPNet do, the score is a sum over them, and each word has a
        share. A static encoder weighs the words by its own vectors, which are near to those behind the score. For
        other pooling the shares are a hint, not a sum.

        Returns:
            For each track, largest first: matched, the words of the request that its text has; words, [{word, share}],
            at most `REASONS`; moods, [{mood, similarity}] to the mean vector of the mood's tracks, at most `REASONS`.
        """
        rows, explanations = self.rows(ids), []
        shares = contributions(self.model, self.tracks["text"].iloc[rows].tolist(), query.vector)
        asked = {word for text in query.reading.texts for word in split(text)} - FILLERS
        texts = self.tracks["text"].iloc[rows]
        for text, ranked, near in zip(texts, shares, self.index.at(rows) @ self.centres.T, strict=True):
            matched = [word for word in dict.fromkeys(split(text)) if word in asked]
            words = [{"word": word, "share": round(share, 3)} for word, share in ranked[:REASONS]]
            nearest = np.argsort(-near)[:REASONS]
            moods = [{"mood": self.moods[i], "similarity": round(float(near[i]), 3)} for i in nearest]
            explanations.append({"matched": matched, "words": words, "moods": moods})
        return explanations

    @cached_property
    def centres(self) -> np.ndarray:
        """The unit mean vector of each mood's tracks, or of a sample of them. -> (moods, d)."""
        rows = [np.flatnonzero(self.mood == i) for i in range(len(self.moods))]
        means = [self.index.at(of[:: len(of) // CENTRED + 1]).mean(axis=0) for of in rows]
        return np.array([mean / np.linalg.norm(mean) for mean in means]).reshape(-1, self.vectors.shape[1])

    @cached_property
    def _ids(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of all ids in order, and their rows: a table of ten million texts would take a gigabyte."""
        ids = self.tracks["id"]
        keys = np.concatenate([hashes(ids.iloc[i : i + CHUNK].tolist()) for i in range(0, len(ids), CHUNK)])
        order = np.argsort(keys).astype(np.int32)
        return keys[order], order

    def _diversify(
        self, rows: np.ndarray, scores: np.ndarray, artist: np.ndarray, top_k: int, diversity: float
    ) -> list[int]:
        """Choose among `rows`. -> positions in the order of the choice; the first is always chosen."""
        vectors, relevance, chosen = self.index.at(rows), (1 - diversity) * scores, [0][: len(rows)]
        artist = np.where(artist < 0, ~np.arange(len(rows)), artist)  # no two of the unknown ones are the same
        similarity, same = np.full(len(rows), -1, np.float32), np.zeros(len(rows), int)
        while len(chosen) < min(top_k, len(rows)):
            np.maximum(similarity, vectors @ vectors[chosen[-1]], out=similarity)
            same += artist == artist[chosen[-1]]
            relevance[chosen[-1]] = -np.inf
            chosen.append(int((relevance - diversity * (similarity + same)).argmax()))
        return chosen


def _codes(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return each value's position among the sorted values, (n,) of int32, -1 if it is empty; and these values."""
    codes, names = pd.factorize(values.where(values != ""), sort=True)
    return codes.astype(np.int32), list(names)


def _reader(values: pd.Series) -> Callable[[int], str | None]:
    """Return a function that reads one value of a column. pandas takes as long for five rows as the encoder does."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, read = values.cat.codes.to_numpy(), _reader(values.cat.categories.to_series())
        return lambda row: read(codes[row]) if codes[row] >= 0 else None
    array = pa.array(values, pa.large_string())
    if isinstance(array, pa.ChunkedArray):  # of a table that was put together
        array = array.combine_chunks()
    _, ends, letters = (memoryview(buffer or b"") for buffer in array.buffers())
    ends = ends.cast("q")[array.offset :]
    return lambda row: str(letters[ends[row] : ends[row + 1]], "utf-8")


def open_run(run: Path) -> Recommender:
    """Open a run's encoder and index, without reading the index.

    Raises:
        WorkbookError: a part is missing or damaged, or another model made the index.
    """
    need(run, "model", "index")
    gc.collect()  # sentence-transformers' models refer to themselves: a closed run would stay in memory
    try:
        index_print = fingerprint(run / "index" / "index.json")  # covers the index: it has its files' fingerprints
        form_prints = forms(run)
        about = read_index(run, form_prints["torch"])
        index = open_index(run / "index")
        tracks = read_table(run / "index" / TRACKS, memory_map=True).to_pandas()
        fusion, model = open_fusion(run / "index", index, tracks), open_form(run, about["encoder"])
    except READ_ERRORS as error:
        reason = str(error).split(". ")[0]  # numpy's advice to load pickles is none for our users
        raise WorkbookError(f"{shown(run)} is damaged: {reason}. {AGAIN}") from error
    if index_print != fingerprint(run / "index" / "index.json"):  # another process has just replaced it
        return open_run(run)
    if (shape := index.vectors.shape) != (len(tracks), model.get_embedding_dimension()):
        raise WorkbookError(f"{shown(run)}: index/ is {shape}, which does not fit its tracks and its model.")
    fingerprints = {"model": form_prints["torch"], "encoder": form_prints[about["encoder"]], "index": index_print}
    return Recommender(model, fusion, tracks, fingerprints)
