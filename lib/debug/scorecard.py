"""The scorecard of an embedding space: each check's value beside its healthy range (scorecard.yaml)."""

from math import inf, isfinite
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib.core.measures import ENOUGH
from lib.core.pages import render
from lib.debug.space import FEWEST

MARKS = {"ok": "✓ ok", "look": "▲ **look**", "broken": "✗ **broken**", "not measured": "– not measured"}
CHECKS = pd.DataFrame(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))
CHECKS = CHECKS.fillna({"low": -inf, "high": inf, "fatal": False, "share": False, "needs": ""}).set_index("check")
CHECKS["needs"] = [needs.format(enough=ENOUGH, fewest=FEWEST) for needs in CHECKS["needs"]]


def judge(results: dict[str, float | None]) -> pd.DataFrame:
    """Compare results, by the name of their check, with the healthy ranges. None, NaN or missing: not measured.

    Returns:
        Columns check, value, shown (the value for readers), healthy, verdict (a key of `MARKS`), source, cure,
        needs (the condition of measuring it).
    """
    card = CHECKS.assign(value=pd.Series(results, dtype=float))
    verdicts = {
        "not measured": card["value"].isna(),
        "ok": card["value"].between(card["low"], card["high"]),
        "broken": card["fatal"].astype(bool),
    }
    card["verdict"] = np.select(list(verdicts.values()), list(verdicts), "look")
    card["shown"] = [_text(c.value, c.share) for c in card.itertuples()]
    card["healthy"] = [_range(c.low, c.high, c.share) for c in card.itertuples()]
    return card.reset_index()[["check", "value", "shown", "healthy", "verdict", "source", "cure", "needs"]]


def _text(value: float, share: bool) -> str:
    if np.isnan(value):
        return ""
    return f"{100 * value:.3g} %" if share else f"{value:.4g}"


def _range(low: float, high: float, share: bool) -> str:
    bounds = {"at least": low, "at most": high}
    return ", ".join(f"{words} {_text(bound, share)}" for words, bound in bounds.items() if isfinite(bound))


def headline(card: pd.DataFrame) -> str:
    """Return the scorecard as Markdown: the number of healthy checks, cures for the others, then the table."""
    return render("debug/scorecard.md", card=card.to_dict("records"), marks=MARKS).rstrip()


def record(card: pd.DataFrame, health: dict, figures: dict, mood_pairs: dict[str, pd.DataFrame]) -> dict:
    """Return the content of embedding.json: the scorecard, its figures and the pairs of moods. NaN becomes None."""
    rows = card.astype(object).where(card.notna(), None).to_dict("records")
    pairs = {name: table.round(4).to_dict("records") for name, table in mood_pairs.items()}
    return {"scorecard": rows, "health": health, "similarity": figures, "mood_pairs": pairs}
