"""Search: a run's tuned encoder and its index of the catalogue. Text in, tracks out; it knows nothing of HTTP."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sentence_transformers import SentenceTransformer

from lib.encoder import embed, load
from lib.runs import WorkbookError, atomic, fingerprint, need, read_json, shown, write_json

# Rocchio's weights for tracks that were liked and disliked (Manning, Raghavan, Schütze 2008, section 9.1.1).
LIKED, DISLIKED = 0.75, 0.15
SHOWN = ["id", "title", "artist", "mood"]
# The seed's bands, on cosine similarity; the lower edge of each.
BANDS = {"strong": 0.7, "moderate": 0.5, "borderline": 0.4, "weak": -1.0}


def band(score: float) -> str:
    """strong above 0.7, moderate from 0.5, borderline from 0.4, weak below."""
    if score > BANDS["strong"]:
        return "strong"
    return next((name for name in ("moderate", "borderline") if score >= BANDS[name]), "weak")


@dataclass
class Recommender:
    """An encoder and a catalogue in one embedding space.

    Attributes:
        model: the tuned encoder.
        vectors: (n, d) float32 unit vectors, memory-mapped.
        tracks: the n tracks, in the rows' order.
        fingerprints: SHA-256 of the model folder and of the vectors.
    """

    model: SentenceTransformer
    vectors: np.ndarray
    tracks: pd.DataFrame
    fingerprints: dict[str, str]

    def __post_init__(self) -> None:
        self.row = {track: i for i, track in enumerate(self.tracks["id"])}
        self.moods = sorted(set(self.tracks["mood"]) - {""})

    def recommend(self, text: str, top_k: int = 5, mood: str | None = None, liked=(), disliked=()) -> pd.DataFrame:
        """The `top_k` tracks nearest to a request, best first.

        Args:
            text: what the listener wants.
            mood: only tracks of this mood.
            liked: ids of tracks that pull the request towards them; they are not returned again.
            disliked: ids of tracks that push it away; they are not returned either.

        Returns:
            Columns id, title, artist, mood, score (cosine similarity, never increasing), match (the seed's band).

        Raises:
            KeyError: an id in liked or disliked that the catalogue does not have; the ids are its argument.
        """
        known = [*liked, *disliked]
        if unknown := [track for track in known if track not in self.row]:
            raise KeyError(unknown)
        query = embed(self.model, [unicodedata.normalize("NFKC", text)])[0]  # tokenizers know no full-width letters
        query = query + LIKED * self._mean(liked) - DISLIKED * self._mean(disliked)
        scores = self.vectors @ (query / np.linalg.norm(query))
        allowed = ~self.tracks["id"].isin(known) & ((self.tracks["mood"] == mood) | (mood is None))
        rows = np.flatnonzero(allowed)
        best = rows[np.argsort(-scores[rows], kind="stable")[:top_k]]
        found = self.tracks.loc[best, SHOWN].assign(score=scores[best].astype(float).round(4))
        return found.assign(match=found["score"].map(band)).reset_index(drop=True)

    def _mean(self, ids) -> np.ndarray:
        rows = [self.row[track] for track in ids]
        return self.vectors[rows].mean(axis=0) if rows else np.zeros(self.vectors.shape[1], np.float32)


def build_index(run: Path, model: SentenceTransformer, tracks: pd.DataFrame, progress: bool = False) -> None:
    """Embed the catalogue with the run's model and write index/, whole or not at all."""
    vectors = embed(model, tracks["text"], progress=progress)
    if not np.isfinite(vectors).all():
        raise WorkbookError("the tuned encoder gives vectors that are not finite: training diverged; lower lr.")
    with atomic(run / "index") as temporary:
        temporary.mkdir()
        np.save(temporary / "vectors.npy", vectors)
        opening = tracks["text"].str[:60].str.strip() + "…"  # what to show of a track that has no title
        shown_tracks = tracks[[*SHOWN, "text"]].assign(title=tracks["title"].where(tracks["title"] != "", opening))
        shown_tracks.to_parquet(temporary / "tracks.parquet", index=False)
        about = {"model": fingerprint(run / "model"), "tracks": len(tracks), "dimension": vectors.shape[1]}
        write_json(temporary / "index.json", about)


def open_run(run: Path) -> Recommender:
    """Load a run's model and index, checked against each other.

    Raises:
        WorkbookError: one is missing or damaged, or the index was made with another model.
    """
    need(run, "model", "index")
    about = read_json(run / "index" / "index.json")
    model_print = fingerprint(run / "model")
    if about["model"] != model_print:
        raise WorkbookError(f"{shown(run)}: index/ was made with another model than model/. Run 03_finetune again.")
    vectors = np.load(run / "index" / "vectors.npy", mmap_mode="r")
    tracks = pd.read_parquet(run / "index" / "tracks.parquet")
    model = load(run / "model")
    if vectors.shape != (len(tracks), model.get_embedding_dimension()):
        raise WorkbookError(f"{shown(run)}: index/ is {vectors.shape}, which does not fit its tracks and its model.")
    return Recommender(model, vectors, tracks, {"model": model_print, "index": fingerprint(run / "index")})
