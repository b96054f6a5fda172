"""What notebook 05 measured, in words: the verdict, the screenful that it begins, and the table of the report."""

from __future__ import annotations

from html import escape

import pandas as pd

from lib.core.measures import MAIN

FEWEST = 50  # held-out tracks, below which the first ten are too large a part of them for a verdict


def verdict(metrics: dict) -> str:
    """One sentence on whether tuning helped, from the measured difference and its interval."""
    change, encoders = metrics["difference"][MAIN], metrics["encoders"]
    if metrics["tracks"] < FEWEST:
        said = f"Too few held-out tracks ({metrics['tracks']}) to tell whether tuning helped"
    elif change["low"] > 0:
        said = "Tuning helped"
    elif change["high"] < 0:
        said = "Tuning did harm, and keep_base=1 serves the base"
    else:
        said = "Tuning made no clear difference"
    words = encoders["bm25"]["retrieval"][MAIN]["mean"]
    base, tuned = (encoders[name]["retrieval"][MAIN]["mean"] for name in ("base", "tuned"))
    return (
        f"{said}: nDCG@10 on {metrics['requests']} held-out requests goes from {base:.3f} to {tuned:.3f} "
        f"({change['mean']:+.3f}, 95 % interval {change['low']:+.3f} to {change['high']:+.3f}); "
        f"words alone (BM25) have {words:.3f}."
    )


def headline(metrics: dict) -> str:
    """The verdict as a screenful of Markdown: each line a finding and the figures that it rests on."""
    encoders, base, tuned = metrics["encoders"], metrics["encoders"]["base"], metrics["encoders"]["tuned"]
    lines = [f"**{metrics['verdict']}**", ""]
    main = {name: encoder["retrieval"][MAIN]["mean"] for name, encoder in encoders.items()}
    best = max(main, key=main.get)
    lines.append(f"- Best of all on these requests: **{best}** ({main[best]:.3f}).")
    if moods := metrics["by_mood"]:
        weakest = min(moods, key=lambda m: moods[m]["tuned"])
        gained = sum(row["tuned"] > row["base"] for row in moods.values())
        said = f"{moods[weakest]['base']:.2f} to {moods[weakest]['tuned']:.2f}"
        lines.append(f"- {gained} of {len(moods)} moods are found better; hardest: {weakest} (mAP {said}).")
    if "musiccaps" in tuned:
        pairs = [
            f"{task} {before:.3f} to {after:.3f}{' (**worse**)' if after < before else ''}"
            for task, before, after in ((t, base["musiccaps"][t], v) for t, v in tuned["musiccaps"].items())
        ]
        lines.append(f"- On text that people wrote (MusicCaps): {', '.join(pairs)}.")
    else:
        lines.append("- Nothing was measured on text that people wrote: MusicCaps was not at hand.")
    if "benchmark" in tuned:
        means = [f"{name} {e['benchmark'][MAIN]['mean']:.3f}" for name, e in encoders.items() if "benchmark" in e]
        lines.append(f"- On your own benchmark, {MAIN}: {', '.join(means)}.")
    if tuned["seed_test"] and base["seed_test"]:
        means = [encoder["seed_test"]["mean"] for encoder in (base, tuned)]
        lines.append(
            f"- The seed's test: mean similarity {means[0]:.2f} to {means[1]:.2f}, "
            f"{tuned['seed_test']['bands']['strong']} of {tuned['seed_test']['tracks']} tracks above 0.7. "
            "It is no measure of retrieval."
        )
    threshold = tuned["thresholds"]["70%"]
    lines.append(
        f"- An answer is right 70 % of the time from a similarity of {threshold:.2f} on."
        if threshold is not None
        else "- No similarity is high enough for answers to be right 70 % of the time."
    )
    lines.append(f"- The space is {tuned['space']['verdict']} (uniformity {tuned['space']['uniformity']:.2f}).")
    return escape("\n".join(lines), quote=False)  # Markdown lets HTML through, and moods may be the user's


def summary(metrics: dict) -> pd.DataFrame:
    """Retrieval with intervals as a table to show: a row an encoder."""
    rows = {
        name: {m: f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for m, v in encoder["retrieval"].items()}
        for name, encoder in metrics["encoders"].items()
    }
    return pd.DataFrame(rows).T
