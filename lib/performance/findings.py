"""Findings of notebook 05 in words: the verdict, the headline under it, and the table of the report."""

from html import escape

import pandas as pd

from lib.core.measures import MAIN

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
    """Return the verdict and the other findings as Markdown, a line each."""
    encoders, base, tuned = metrics["encoders"], metrics["encoders"]["base"], metrics["encoders"]["tuned"]
    main = {name: encoder["retrieval"][MAIN]["mean"] for name, encoder in encoders.items()}
    best = max(main, key=main.get)
    lines = [f"**{metrics['verdict']}**", "", f"- Best on these requests: **{best}** ({main[best]:.3f})."]
    if moods := metrics["by_mood"]:
        hardest = min(moods, key=lambda m: moods[m]["tuned"])
        gained = sum(row["tuned"] > row["base"] for row in moods.values())
        change = f"{moods[hardest]['base']:.2f} to {moods[hardest]['tuned']:.2f}"
        lines.append(f"- Tuning raises the mAP of {gained} of {len(moods)} moods; hardest: {hardest} (mAP {change}).")
    lines.append(_musiccaps(base.get("musiccaps"), tuned.get("musiccaps")))
    if "benchmark" in tuned:
        means = [f"{name} {e['benchmark'][MAIN]['mean']:.3f}" for name, e in encoders.items() if "benchmark" in e]
        lines.append(f"- On your own benchmark, {MAIN}: {', '.join(means)}.")
    if tuned["single_query"] and base["single_query"]:
        check = tuned["single_query"]
        lines.append(
            f"- Single-query check: mean similarity {base['single_query']['mean']:.2f} to {check['mean']:.2f}, "
            f"{check['bands']['strong']} of {check['tracks']} tracks above 0.7. It does not measure retrieval."
        )
    threshold = tuned["thresholds"]["70%"]
    lines.append(
        "- At no similarity are 70 % of the tracks above it relevant."
        if threshold is None
        else f"- Of the tracks with a similarity of {threshold:.2f} or more, 70 % are relevant."
    )
    lines.append(f"- The space is {tuned['space']['verdict']} (uniformity {tuned['space']['uniformity']:.2f}).")
    return escape("\n".join(lines), quote=False)  # moods come from the user, and Markdown passes HTML on


def _musiccaps(base: dict | None, tuned: dict | None) -> str:
    if not tuned:
        return "- MusicCaps was not available: nothing was measured on text that people wrote."
    tasks = [
        f"{task} {base[task]:.3f} to {after:.3f}{' (**worse**)' if after < base[task] else ''}"
        for task, after in tuned.items()
    ]
    return f"- On text that people wrote (MusicCaps): {', '.join(tasks)}."


def summary(metrics: dict) -> pd.DataFrame:
    """Return the retrieval measures with their intervals as text: a row for each encoder."""
    rows = {
        name: {m: f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for m, v in encoder["retrieval"].items()}
        for name, encoder in metrics["encoders"].items()
    }
    return pd.DataFrame(rows).T
