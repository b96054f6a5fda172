"""Search: a run's tuned encoder and its index of the catalogue. Text in, tracks out; it knows nothing of HTTP."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow.feather import read_table
from sentence_transformers import SentenceTransformer

from lib.core.encoder import contributions, embed
from lib.core.errors import WorkbookError
from lib.core.files import fingerprint, read_json
from lib.core.paths import shown
from lib.core.runs import need
from lib.search.forms import open_form
from lib.search.index import SHOWN, TRACKS, Index, open_index
from lib.search.integrity import DAMAGED, forms
from lib.search.match import band

# Rocchio's weights (Manning, Raghavan, Schütze 2008, section 9.1.1) for tracks that were liked and disliked. Heavier
# ones gain little more, and leave the text less of a say: benchmarks/search.py, which has the default diversity too.
LIKED, DISLIKED = 1.5, 0.3
DIVERSITY = 0.05
POOL = 10  # times as many tracks as are wanted: those that diversity chooses from
CENTRED = 10_000  # tracks of a mood, beyond which its middle is that of some of them
WORDS, MOODS = 3, 3  # words and moods that explain a track


@dataclass
class Recommender:
    """An encoder and a catalogue in one embedding space.

    Attributes:
        model: the tuned encoder.
        index: the tracks' vectors.
        tracks: the n tracks, in the rows' order.
        fingerprints: SHA-256 of the model, of the form of it that encodes requests, and of the index.
    """

    model: SentenceTransformer
    index: Index
    tracks: pd.DataFrame
    fingerprints: dict[str, str]

    def __post_init__(self) -> None:
        self.ids = pd.Index(self.tracks["id"])
        self.shown = [self.tracks[name].array for name in SHOWN]
        self.mood, self.moods = _codes(self.tracks["mood"])
        self.artist, _ = _codes(self.tracks["artist"])
        self.filters: dict[str, object] = {}

    @property
    def vectors(self) -> np.ndarray:
        """(n, d) float32 unit vectors, memory-mapped."""
        return self.index.vectors

    def rows(self, ids) -> np.ndarray:
        """The rows of tracks. (m,) of str -> (m,) of int.

        Raises:
            KeyError: ids that the catalogue does not have; they are its argument.
        """
        ids = list(ids)
        found = self.ids.get_indexer(ids) if ids else np.empty(0, int)
        if unknown := [track for track, row in zip(ids, found, strict=True) if row < 0]:
            raise KeyError(unknown)
        return found

    def recommend(
        self, text: str, top_k: int = 5, mood: str | None = None, liked=(), disliked=(), diversity: float = DIVERSITY
    ) -> pd.DataFrame:
        """The tracks that answer a request, as a table: `query`, then `search`, whose arguments these are."""
        query = self.query(text, liked, disliked)
        found = self.search(query, top_k, mood, without=[*liked, *disliked], diversity=diversity)
        return pd.DataFrame(found, columns=[*SHOWN, "score", "match"])

    def encode(self, texts: list[str]) -> np.ndarray:
        """Encode queries in one batch, if the encoder's answers do not depend on the batch. -> (n, d) float32."""
        return embed(self.model, [_normal(text) for text in texts])

    def query(self, text: str, liked=(), disliked=(), vector: np.ndarray | None = None) -> np.ndarray:
        """Return the query as a unit vector, moved towards the liked tracks and away from the others. -> (d,) float32.

        Args:
            vector: the text's vector, from a caller that has encoded it already.

        Raises:
            KeyError: ids in liked or disliked that the catalogue does not have; they are its argument.
            ValueError: the encoder finds nothing in the text, and nothing was liked.
        """
        self.rows([*liked, *disliked])  # all that are unknown, at once
        vector = self.encode([text])[0] if vector is None else vector
        moved = vector + LIKED * self._mean(liked) - DISLIKED * self._mean(disliked)
        if not np.isfinite(moved).all():
            raise WorkbookError("the index holds vectors that are not numbers: make index again")
        if not moved.any():
            raise ValueError("the text has no letter, digit or sign that the encoder knows")
        return moved / np.linalg.norm(moved)

    def search(
        self, query: np.ndarray, top_k: int = 5, mood: str | None = None, without=(), diversity: float = DIVERSITY
    ) -> list[dict]:
        """The `top_k` tracks that fit a query and are not all alike, best first.

        They are chosen by maximal marginal relevance (Carbonell and Goldstein 1998) among the `POOL` times as many
        that are nearest. Each track that is chosen of an artist counts against the artist's others.

        Args:
            query: a unit vector, (d,).
            mood: only tracks of this mood.
            without: ids of tracks that are not returned.
            diversity: 0 for the nearest whatever they are, 1 for the most unlike of the pool.

        Returns:
            Of each id, title, artist, mood, score (cosine similarity, never increasing), match (the seed's band).

        Raises:
            ValueError: no track has that mood.
        """
        excluded = self.rows(without)
        allowed = None if mood is None else self._only(mood)
        nearest, scores = self.index.nearest(query, POOL * top_k + len(excluded), allowed)
        kept = ~np.isin(nearest, excluded)
        nearest, scores = nearest[kept], scores[kept]
        chosen = self._unlike(nearest, scores, top_k, diversity)
        # Column by column: a table of five rows costs pandas as much time as the encoder its request.
        told = zip(*(column.take(nearest[chosen]) for column in self.shown), strict=True)
        rounded = scores[chosen].astype(float).round(4).tolist()
        return [
            dict(zip(SHOWN, track, strict=True)) | {"score": score, "match": band(score)}
            for track, score in zip(told, rounded, strict=True)
        ]

    def explain(self, query: np.ndarray, ids: list[str]) -> list[dict]:
        """Why these tracks fit a query.

        An encoder that takes the mean over its tokens, as MiniLM and MPNet do, gives a score that is a sum over them:
        each word has a share of it. (A static encoder of requests weighs the words by its own vectors, which are near
        to those behind the score; of an encoder that pools otherwise the shares are a hint, no sum.) The words with
        the largest shares are named, leaving out those that mean nothing alone.

        Returns:
            For each track: words, [{word, share}] of its text, at most `WORDS`; moods, [{mood, similarity}] to the
            mean vector of each mood's tracks, at most `MOODS`. Both largest first.
        """
        rows = self.rows(ids)
        words = contributions(self.model, self.tracks["text"].iloc[rows].tolist(), query)
        near = self.index.at(rows) @ self.centres.T
        return [
            {
                "words": [{"word": word, "share": round(share, 3)} for word, share in ranked[:WORDS]],
                "moods": [
                    {"mood": self.moods[i], "similarity": round(float(row[i]), 3)} for i in np.argsort(-row)[:MOODS]
                ],
            }
            for ranked, row in zip(words, near, strict=True)
        ]

    def _only(self, mood: str):
        """The filter of a mood, made once."""
        if mood not in self.filters:
            self.filters[mood] = self.index.only(self.mood == self.moods.index(mood))
        return self.filters[mood]

    def _unlike(self, rows: np.ndarray, scores: np.ndarray, top_k: int, diversity: float) -> list[int]:
        """Which of `rows`, best first, to show: positions, ascending, the first always among them."""
        vectors, artist = self.index.at(rows), self.artist[rows]
        alike, same = vectors @ vectors.T, (artist[:, None] == artist) & (artist >= 0)
        worth, chosen = (1 - diversity) * scores, [0][: len(rows)]
        while len(chosen) < min(top_k, len(rows)):
            value = worth - diversity * (alike[chosen].max(axis=0) + same[chosen].sum(axis=0))
            value[chosen] = -np.inf
            chosen.append(int(value.argmax()))
        return sorted(chosen)

    @cached_property
    def centres(self) -> np.ndarray:
        """The unit mean vector of each mood's tracks, or of some of them where they are many. -> (moods, d)."""
        rows = [np.flatnonzero(self.mood == i) for i in range(len(self.moods))]
        means = [self.index.at(of[:: len(of) // CENTRED + 1]).mean(axis=0) for of in rows]
        return np.array([mean / np.linalg.norm(mean) for mean in means]).reshape(-1, self.vectors.shape[1])

    def _mean(self, ids) -> np.ndarray:
        rows = self.rows(dict.fromkeys(ids))  # one that is said twice counts once
        return self.index.at(rows).mean(axis=0) if len(rows) else np.zeros(self.vectors.shape[1], np.float32)


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text)  # tokenizers know no full-width letters


def _codes(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Each value's place among the sorted ones, -1 where it is empty. -> (n,) of int, the values."""
    known = values.astype("category").cat.remove_unused_categories().cat
    names, empty = list(known.categories), int("" in known.categories)  # which sorts first
    return known.codes.to_numpy().astype(np.int32) - empty, names[empty:]


def open_run(run: Path) -> Recommender:
    """Load a run's encoder and index, checked against each other. The index is mapped, not read.

    Raises:
        WorkbookError: one is missing or damaged, or the index was made with another model.
    """
    need(run, "model", "index")
    try:
        index_print = fingerprint(run / "index" / "index.json")  # which has the fingerprints of the files
        about = read_json(run / "index" / "index.json")
        made = forms(run)
        if about["model"] != made["torch"]:
            raise WorkbookError(
                f"{shown(run)}: index/ was made with another model than model/, or a file of model/ was changed or "
                "lost. Run 03_finetune again."
            )
        index = open_index(run / "index")
        tracks = read_table(run / "index" / TRACKS, memory_map=True).to_pandas()
        model = open_form(run, about["encoder"])
    except DAMAGED as error:
        raise WorkbookError(f"{shown(run)} is damaged: {error}. Run 03_finetune again.") from error
    if index_print != fingerprint(run / "index" / "index.json"):  # it was replaced meanwhile
        return open_run(run)
    if index.vectors.shape != (len(tracks), model.get_embedding_dimension()):
        raise WorkbookError(
            f"{shown(run)}: index/ is {index.vectors.shape}, which does not fit its tracks and its model."
        )
    fingerprints = {"model": made["torch"], "encoder": made[about["encoder"]], "index": index_print}
    return Recommender(model, index, tracks, fingerprints)
