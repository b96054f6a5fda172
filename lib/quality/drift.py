"""drift."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from lib.core.errors import WorkbookError
from lib.tracks.columns import FEATURES


def profile(tracks: pd.DataFrame) -> dict:
    """What a later catalogue is compared with: for each column of numbers its deciles, for each label its shares."""
    out = {}
    for name in (*FEATURES, "tempo", "loudness", "duration_ms", "popularity"):
        known = tracks[name].dropna()
        if len(known) >= 100:
            edges = np.unique(known.quantile(np.linspace(0, 1, 11)).round(6))
            out[name] = {"edges": edges.tolist(), "shares": _shares(known, edges).round(4).tolist()}
    for name in ("mood", "genre"):
        shares = tracks[name].value_counts(normalize=True).head(50).round(4)
        out[name] = {"labels": shares.index.tolist(), "shares": shares.tolist()}
    return out


def reference_profile(folder: Path, named: bool) -> dict | None:
    """The profile in a run's quality.json: of the run that a parameter names, else of what was checked there before.

    Raises:
        WorkbookError: a run was named and has no profile.
    """
    try:
        return json.loads((folder / "quality.json").read_text(encoding="utf-8"))["profile"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if named:
            raise WorkbookError(
                f"reference: {folder} is no run's folder with a quality.json that has a profile."
            ) from error
        return None


def drift(tracks: pd.DataFrame, reference: dict) -> dict[str, float]:
    """How far each column has moved from a profile: the population stability index; over 0.25 is a large move.

    PSI is the sum over bins of (p - q) ln(p / q), shares floored at 0.0005 (Siddiqi 2006, "Credit Risk Scorecards").
    """
    out = {}
    for name, was in reference.items():
        if "labels" in was:
            now = tracks[name].value_counts(normalize=True).reindex(was["labels"], fill_value=0).to_numpy()
        elif tracks[name].notna().sum() < 100 or len(was["edges"]) < 3:
            continue
        else:
            now = _shares(tracks[name].dropna(), np.array(was["edges"]))
        p, q = (np.maximum([*shares, max(0, 1 - sum(shares))], 5e-4) for shares in (now, was["shares"]))
        out[name] = float(((p - q) * np.log(p / q)).sum())
    return out


def _shares(values: pd.Series, edges: np.ndarray) -> np.ndarray:
    """Share of values in each bin; those outside count in the first or the last. -> (len(edges) - 1,)."""
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    return np.bincount(place, minlength=max(1, len(edges) - 1)) / len(values)
