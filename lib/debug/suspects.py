"""Tracks and requests to look at: hubs, tracks whose neighbours have another mood, requests without a close track."""

import numpy as np
import pandas as pd

COLUMNS = ["id", "title", "artist", "mood"]


def hubs(tracks: pd.DataFrame, near: np.ndarray | None) -> pd.DataFrame:
    """Count how many tracks have each track as a neighbour, largest number first. near: (n, k) rows; None: empty."""
    if near is None:
        return tracks.head(0)
    table = tracks[COLUMNS].assign(neighbour_of=np.bincount(near.ravel(), minlength=len(near)))
    return table.sort_values("neighbour_of", ascending=False, kind="stable")


def neighbour_moods(tracks: pd.DataFrame, near: np.ndarray | None) -> pd.DataFrame:
    """Compare each track's mood with the commonest mood of its neighbours. near: (n, k) rows; None: empty.

    Returns:
        Columns id, title, artist, mood, neighbours_mood, share (of the neighbours, largest first), nearest (a title),
        contradicts: True if most neighbours have one other mood. Unknown moods contradict none.
    """
    if near is None:
        return pd.DataFrame({"contradicts": np.empty(0, bool)})
    code, names = pd.factorize(tracks["mood"])
    votes = np.zeros((len(tracks), len(names)), dtype=int)
    np.add.at(votes, (np.arange(len(tracks))[:, None], code[near]), 1)
    votes[:, names == ""] = 0
    first, share = votes.argmax(axis=1), votes.max(axis=1) / near.shape[1]
    table = tracks[COLUMNS].assign(
        neighbours_mood=names[first],
        share=share,
        nearest=tracks["title"].to_numpy()[near[:, 0]],
        contradicts=(first != code) & (share > 0.5) & (tracks["mood"] != ""),
    )
    return table.sort_values("share", ascending=False, kind="stable")


def farthest(queries: np.ndarray, requests: pd.DataFrame, vectors: np.ndarray, tracks: pd.DataFrame) -> pd.DataFrame:
    """Find the nearest track of each request. queries: (requests, d), vectors: (tracks, d).

    Returns:
        Columns text, cosine (smallest first), nearest_title, nearest_artist, nearest_mood.
    """
    cosine = queries @ vectors.T
    nearest = tracks[["title", "artist", "mood"]].iloc[cosine.argmax(axis=1)].reset_index(drop=True)
    table = requests[["text"]].reset_index(drop=True).assign(cosine=cosine.max(axis=1))
    return table.join(nearest.add_prefix("nearest_")).sort_values("cosine", kind="stable", ignore_index=True)
