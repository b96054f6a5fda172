"""Pictures of what listeners did, of the bias of places, and of the next model beside the last."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.core.style import BASE, FAINT, OTHER, TUNED


def funnel(counts: pd.Series, whose: str) -> Figure:
    """Draw the counts of `listening.funnel`; `whose` begins the title: "Simulated listeners" or "Listeners"."""
    figure, axes = plt.subplots(figsize=(8, 2.4), layout="constrained")
    bars = axes.barh(counts.index[::-1], counts[::-1], color=[OTHER, TUNED, TUNED, FAINT])
    shares = [f" {n:,} ({n / counts['shown']:.1%})" for n in counts[::-1]]
    axes.bar_label(bars, shares, fontsize=9)
    axes.set(xlabel="tracks in answers", xlim=(0, 1.25 * counts.max()))
    axes.grid(visible=False, axis="y")
    played, liked = counts["played"] / counts["shown"], counts["liked"] / max(counts["played"], 1)
    axes.set_title(f"{whose} play {played:.1%} of the shown tracks, and like {liked:.0%} of these")
    return figure


def places(table: pd.DataFrame, whose: str, true: np.ndarray | None = None) -> Figure:
    """Draw the tries an impression by place, raw and corrected, and the propensities.

    Args:
        table: from `position.propensities`.
        true: the propensities that simulated listeners have.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    corrected = table["rate"] / table["propensity"].clip(lower=0.02)
    left.plot(table.index, table["rate"], "s-", color=BASE, label="raw")
    left.plot(table.index, corrected, "o-", color=TUNED, label="corrected")
    left.set(xlabel="place in the answer", ylabel="tries for each track shown", ylim=(0, None))
    first, last = table.index[0], table.index[-1]
    raw, rest = (values[first] / max(values[last], 1e-9) for values in (table["rate"], corrected))
    left.set_title(f"{whose} try place {first} {raw:.1f}× as often as {last};\ncorrected for looks, {rest:.1f}×")
    right.plot(table.index, table["propensity"], "o-", color=TUNED, label="estimated from the log")
    title = f"Place {last} is looked at {table['propensity'][last]:.2f} times as often as place {first}"
    if true is not None:
        right.plot(table.index, true, "--", color=OTHER, label="true (simulated)")
        title = f"The estimate is within {np.abs(table['propensity'] - true).max():.2f} of the simulated truth"
    right.set(
        xlabel="place in the answer", ylabel="propensity: looks, relative to the first", ylim=(0, 1.1), title=title
    )
    for axes in (left, right):
        axes.set_xticks(table.index)
        axes.legend(fontsize=9)
    return figure


def differences(figures: dict[str, dict[str, float]], title: str) -> Figure:
    """Draw next minus last with its 95 % interval, from `judging.difference`, a line for each measure."""
    table = pd.DataFrame(figures).T[::-1]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(table) + 1.4), layout="constrained")
    y = np.arange(len(table))
    axes.axvline(0, color="black", linewidth=1)
    axes.hlines(y, table["low"], table["high"], color=BASE, linewidth=2)
    axes.scatter(table["mean"], y, color=[TUNED if low > 0 else BASE for low in table["low"]], s=50, zorder=2)
    labels = [f"{name}\n{last:.3f} → {following:.3f}" for name, last, following in table[["last", "next"]].itertuples()]
    axes.set(yticks=y, yticklabels=labels, ylim=(-0.6, len(table) - 0.4))
    axes.set(xlabel="next minus last (95 % interval; right of 0 is better)", title=title)
    return figure


def preferences(table: pd.DataFrame, gain: dict[str, float]) -> Figure:
    """Draw nDCG@10 of simulated listeners' true preferences by the mood that an idiom means.

    Args:
        table: index mood, columns last and next.
        gain: from `judging.ratio`.
    """
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(table) + 1.4), layout="constrained")
    y = np.arange(len(table))
    axes.hlines(y, table["last"], table["next"], color=FAINT, linewidth=3, zorder=1)
    for name, marker, color in (("last", "s", BASE), ("next", "o", TUNED)):
        axes.scatter(table[name], y, color=color, marker=marker, label=name, zorder=2)
    axes.set(yticks=y, yticklabels=table.index, xlim=(0, None), xlabel="nDCG@10 of true preferences, new wordings")
    axes.legend(loc="lower right")
    first, second = table.mean()
    axes.set_title(
        f"Simulated: the next model finds true preferences {gain['ratio']:.2f} times as well\n"
        f"({first:.3f} → {second:.3f}; 95 % interval of the ratio {gain['low']:.2f} to {gain['high']:.2f})"
    )
    return figure
