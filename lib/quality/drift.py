"""Drift of a catalogue from a reference: the profile of its columns, and the population stability index of each."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.core.errors import WorkbookError
from lib.core.files import read_json
from lib.tracks.columns import FEATURES

ENOUGH = 100  # values that a column of numbers needs for its deciles


def profile(tracks: pd.DataFrame) -> dict[str, dict]:
    """Return the profile of a catalogue: the deciles of each column of numbers, the shares of each mood and genre."""
    out = {}
    for name in (*FEATURES, "tempo", "loudness", "duration_ms", "popularity"):
        values = tracks[name].dropna()
        if len(values) >= ENOUGH:
            edges = np.unique(values.quantile(np.linspace(0, 1, 11)).round(6))
            out[name] = {"edges": edges.tolist(), "shares": _shares(values, edges).round(4).tolist()}
    for name in ("mood", "genre"):
        shares = tracks[name].value_counts(normalize=True).head(50).round(4)
        out[name] = {"labels": shares.index.tolist(), "shares": shares.tolist()}
    return out


def reference_profile(folder: Path, named: bool) -> dict | None:
    """Return the profile in a run's quality.json; None if there is none and the parameter `reference` names no run.

    Raises:
        WorkbookError: the named run has no profile.
    """
    try:
        return read_json(folder / "quality.json")["profile"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not named:
            return None
        message = f"reference: {folder} has no quality.json with a profile. Name the folder of a run."
        raise WorkbookError(message) from error


def drift(tracks: pd.DataFrame, reference: dict[str, dict]) -> dict[str, float]:
    """Return the population stability index (PSI) of each column against a profile; over 0.25 is a large change.

    PSI is the sum over bins of (p - q) ln(p / q), with shares of at least 0.0005 (Siddiqi 2006, "Credit Risk
    Scorecards").
    """
    out = {}
    for name, before in reference.items():
        if "labels" in before:
            now = tracks[name].value_counts(normalize=True).reindex(before["labels"], fill_value=0).to_numpy()
        elif tracks[name].notna().sum() < ENOUGH or len(before["edges"]) < 3:
            continue
        else:
            now = _shares(tracks[name].dropna(), np.array(before["edges"]))
        p, q = (np.maximum([*shares, max(0, 1 - sum(shares))], 5e-4) for shares in (now, before["shares"]))
        out[name] = float(((p - q) * np.log(p / q)).sum())
    return out


def _shares(values: pd.Series, edges: np.ndarray) -> np.ndarray:
    """Return the share of values in each bin; the first and last bin are open. -> (len(edges) - 1,)."""
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    return np.bincount(place, minlength=max(1, len(edges) - 1)) / len(values)
