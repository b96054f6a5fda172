"""Findings of notebook 05 in words: the verdict, the headline under it, and the table of the report."""

from html import escape
from pathlib import Path

import pandas as pd
import yaml

from lib.core.measures import ENOUGH, MAIN
from lib.core.pages import render
from lib.search.match import BANDS

MEANINGS = yaml.safe_load(Path(__file__).with_name("meanings.yaml").read_text(encoding="utf-8"))
FEWEST = 50  # held-out tracks that a verdict needs: of fewer the first ten are too large a part


def verdict(metrics: dict) -> str:
    """Return one sentence on whether tuning helped, from the difference in nDCG@10 and its interval."""
    change = metrics["difference"][MAIN]
    if metrics["tracks"] < FEWEST:
        finding = f"Too few held-out tracks ({metrics['tracks']}) to judge the tuning"
    elif change["low"] > 0:
        finding = "Tuning helped"
    elif change["high"] < 0:
        finding = "Tuning did harm (keep_base=1 serves the base)"
    else:
        finding = "Tuning made no clear difference"
    words, base, tuned = (metrics["encoders"][name]["retrieval"][MAIN]["mean"] for name in ("bm25", "base", "tuned"))
    return (
        f"{finding}: nDCG@10 on {metrics['requests']} held-out requests goes from {base:.3f} to {tuned:.3f} "
        f"({change['mean']:+.3f}, 95 % interval {change['low']:+.3f} to {change['high']:+.3f}); "
        f"words alone (BM25) reach {words:.3f}."
    )


def headline(metrics: dict) -> str:
    """Return the verdict and the other findings as Markdown, a line each (findings.md.j2)."""
    gained = sum(row["tuned"] > row["base"] for row in metrics["by_mood"].values())
    words = {"main": MAIN, "strong": BANDS["strong"], "enough": ENOUGH, "gained": gained}
    text = render("performance/findings.md", **words, **metrics)
    # Moods come from the user: Markdown passes HTML on, and makes links of brackets.
    return escape(text.rstrip(), quote=False).replace("\\", "\\\\").replace("[", "\\[")


def summary(metrics: dict) -> pd.DataFrame:
    """Return the retrieval measures with their intervals as text: a row for each encoder."""
    rows = {
        name: {m: f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for m, v in encoder["retrieval"].items()}
        for name, encoder in metrics["encoders"].items()
    }
    return pd.DataFrame(rows).T


def explained(metrics: dict) -> pd.DataFrame:
    """Return the retrieval measures with their meaning, chance and the best possible value: a row for each measure."""
    encoders = {name: metrics["encoders"][name]["retrieval"] for name in ("base", "tuned")}
    means = {name: {measure: v["mean"] for measure, v in values.items()} for name, values in encoders.items()}
    *chance, best = metrics["bounds"]
    table = pd.DataFrame(metrics["bounds"] | means)[[*chance, "base", "tuned", best]].round(3)
    return table.assign(meaning=pd.Series(MEANINGS))
