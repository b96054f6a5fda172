"""Look inside an embedding space: is it sound, does it know moods, which tracks look out of place."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.manifold import trustworthiness
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from umap import UMAP

NEIGHBOURS = 10


def health(vectors: np.ndarray) -> dict[str, float]:
    """Norms, values that are not finite, dead dimensions, effective rank, mean cosine. (n, d) -> one number each.

    Effective rank is exp of the entropy of the normalised singular values (Roy and Vetterli 2007).
    """
    norms = np.linalg.norm(vectors, axis=1)
    finite = vectors[np.isfinite(vectors).all(axis=1)]
    values = np.linalg.svd(finite - finite.mean(axis=0), compute_uv=False)
    share = values[values > 0] / values.sum()
    n = len(finite)
    return {
        "tracks": n,
        "dimensions": vectors.shape[1],
        "not finite": int((~np.isfinite(vectors)).sum()),
        "norm, smallest": float(norms.min()),
        "norm, largest": float(norms.max()),
        "dead dimensions": int((finite.std(axis=0) < 1e-6).sum()),
        "effective rank": float(np.exp(-(share * np.log(share)).sum())),
        "mean cosine": float((np.linalg.norm(finite.sum(axis=0)) ** 2 - n) / (n * (n - 1))),
    }


def pair_similarities(vectors: np.ndarray, moods: pd.Series, seed: int, most: int = 20_000) -> pd.DataFrame:
    """Cosine similarity of at most `most` random pairs of tracks with known moods. -> columns similarity, pair."""
    known = np.flatnonzero(moods != "")
    first, second = np.triu_indices(len(known), 1)
    if len(first) > most:
        chosen = np.random.default_rng(seed).choice(len(first), most, replace=False)
        first, second = first[chosen], second[chosen]
    first, second = known[first], known[second]
    same = moods.to_numpy()[first] == moods.to_numpy()[second]
    similarity = np.einsum("ij,ij->i", vectors[first], vectors[second])
    return pd.DataFrame({"similarity": similarity, "pair": np.where(same, "same mood", "other mood")})


def mood_gap(pairs: pd.DataFrame) -> float | None:
    """How often a same-mood pair is the closer one of two: the area under the ROC curve. None with under two moods."""
    same = pairs["pair"] == "same mood"
    return float(roc_auc_score(same, pairs["similarity"])) if same.nunique() == 2 else None


def project(vectors: np.ndarray, seed: int) -> np.ndarray:
    """UMAP to two dimensions by cosine distance. (n, d) -> (n, 2)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")
        return UMAP(n_neighbors=min(15, len(vectors) - 1), metric="cosine", random_state=seed).fit_transform(vectors)


def trust(vectors: np.ndarray, points: np.ndarray) -> float:
    """Trustworthiness of a picture of the space, 0 to 1 (Venna and Kaski 2001), over ten neighbours."""
    return float(trustworthiness(vectors, points, n_neighbors=min(NEIGHBOURS, len(vectors) // 2 - 1), metric="cosine"))


def suspects(vectors: np.ndarray, tracks: pd.DataFrame) -> pd.DataFrame:
    """Tracks whose neighbours agree on another mood than theirs, surest first."""
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(tracks) - 1), metric="cosine").fit(vectors)
    moods = tracks["mood"].to_numpy()[near.kneighbors(return_distance=False)]
    votes = [pd.Series(row).value_counts() for row in moods]
    table = tracks[["id", "title", "artist", "mood"]].assign(
        neighbours_say=[v.index[0] for v in votes], share=[v.iloc[0] / moods.shape[1] for v in votes]
    )
    return table[table["neighbours_say"] != table["mood"]].sort_values("share", ascending=False, kind="stable")
