"""Match bands: a word for the score of a track. And the parts of a score."""

# The lower edge of each band. 0.7, 0.5 and 0.4 are the thresholds of the single-query check.
BANDS = {"strong": 0.7, "moderate": 0.5, "borderline": 0.4, "weak": -1.0}
PARTS = ("meaning", "words", "names", "conditions")  # of a fused score, which is their sum


def band(score: float) -> str:
    """Return strong above 0.7, moderate from 0.5, borderline from 0.4, weak below."""
    if score > BANDS["strong"]:
        return "strong"
    return next((name for name in ("moderate", "borderline") if score >= BANDS[name]), "weak")
