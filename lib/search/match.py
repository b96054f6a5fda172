"""match."""

from __future__ import annotations

# The seed's bands, on cosine similarity; the lower edge of each.
BANDS = {"strong": 0.7, "moderate": 0.5, "borderline": 0.4, "weak": -1.0}


def band(score: float) -> str:
    """strong above 0.7, moderate from 0.5, borderline from 0.4, weak below."""
    if score > BANDS["strong"]:
        return "strong"
    return next((name for name in ("moderate", "borderline") if score >= BANDS[name]), "weak")
