"""catalogue."""

from __future__ import annotations

import pandas as pd


def titles(tracks: pd.DataFrame) -> pd.Series:
    """What to call each track: its title, or the opening of its text where it has none."""
    return tracks["title"].where(tracks["title"] != "", tracks["text"].str[:60].str.strip() + "…")
