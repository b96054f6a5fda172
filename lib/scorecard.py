"""The scorecard of an embedding space: each check's value against what is healthy, and where that comes from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.calibration import CROWDED
from lib.debugger import NEAR_VECTORS, NEAR_WORDS


class Check(NamedTuple):
    """A line of the scorecard: what is healthy, from `low` to `high`, where that comes from, and if it is fatal."""

    name: str
    low: float
    high: float
    source: str
    fatal: bool = False

    def range(self) -> str:
        """What is healthy, in words."""
        if self.low == self.high:
            return f"{self.low:g}"
        if np.isinf(self.low):
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if np.isinf(self.high) else f"{self.low:g} to {self.high:g}"


ANY = np.inf
UNIT = "float32 rounding of unit vectors"
RULE = "rule of thumb of ours"
CHECKS = (
    Check("values that are not finite", 0, 0, "nothing can be ranked by NaN", True),
    Check("smallest norm", 0.999, 1.001, UNIT, True),
    Check("largest norm", 0.999, 1.001, UNIT, True),
    Check("constant dimensions", 0, 0, "a dimension that never changes carries nothing"),
    Check("effective rank / most possible", 0.1, ANY, f"Roy and Vetterli 2007; {RULE}"),
    Check("mean cosine (anisotropy)", -ANY, 0.5, f"Ethayarajh 2019; {RULE}"),
    Check("uniformity", -ANY, CROWDED, "Wang and Isola 2020; -1.2 is all pairs at cosine 0.7", True),
    Check("hubness (skewness)", -ANY, 1.4, f"Radovanović et al. 2010; {RULE}"),
    Check("tracks with an identical vector", -ANY, 0.01, f"share; {RULE}"),
    Check("tracks with a near-identical vector", -ANY, 0.05, f"share with a cosine from {NEAR_VECTORS}; {RULE}"),
    Check("repeated descriptions", -ANY, 0.01, f"share; {RULE}"),
    Check("near-duplicate descriptions", -ANY, 0.05, f"share with {NEAR_WORDS:.0%} of words in common; {RULE}"),
    Check("texts cut at the token limit", -ANY, 0.05, f"share; {RULE}"),
    Check("alone or in a batch: difference", -ANY, 1, "over the tolerance of the device, 1e-5 on a CPU"),
    Check("CPU or GPU: difference", -ANY, 1, "over a tolerance of 1e-3"),
    Check("white space and case: cosine", 0.99, ANY, f"smallest over the forms; {RULE}"),
    Check("Unicode forms: cosine", 0.9, ANY, f"smallest over the forms; {RULE}"),
    Check("same mood is closer", 0.6, ANY, f"area under the ROC curve, chance 0.5; {RULE}"),
    Check("same mood is closer, over base", 0, ANY, "tuning should raise it"),
    Check("overlap of moods", -ANY, 0.9, f"Weitzman 1970; {RULE}"),
    Check("trustworthiness of the map", 0.9, ANY, f"Venna and Kaski 2001; {RULE}"),
    Check("tracks whose neighbours say another mood", -ANY, 0.2, f"share, most neighbours agreeing; {RULE}"),
    Check("requests near to nothing", -ANY, 0.1, f"share with no track above 0.4, the seed's weak band; {RULE}"),
)


def judge(found: dict[str, float | None]) -> pd.DataFrame:
    """What was found, against what is healthy.

    Args:
        found: the name of a check -> its value; None or missing where it could not be measured.

    Returns:
        Columns check, value, healthy, source, verdict (ok, look, broken, not measured), in the order of `CHECKS`.
    """
    rows = []
    for check in CHECKS:
        value = found.get(check.name)
        if value is None:
            verdict = "not measured"
        elif check.low <= value <= check.high:
            verdict = "ok"
        else:
            verdict = "broken" if check.fatal else "look"
        rows.append((check.name, value, check.range(), check.source, verdict))
    return pd.DataFrame(rows, columns=["check", "value", "healthy", "source", "verdict"])


def headline(card: pd.DataFrame) -> str:
    """The scorecard as Markdown: one sentence on what to look at, then the table."""
    measured, amiss = card[card["verdict"] != "not measured"], card[card["verdict"].isin(["look", "broken"])]
    said = f"**{len(measured) - len(amiss)} of {len(measured)} checks are healthy.**"
    if len(amiss):
        said += " Look at: " + ", ".join(f"{c} ({v:.3g})" for c, v in zip(amiss["check"], amiss["value"], strict=True))
    mark = {"ok": "✓ ok", "look": "▲ **look**", "broken": "✗ **broken**", "not measured": "– not measured"}
    lines = ["| check | value | healthy | verdict | source |", "| --- | ---: | --- | --- | --- |"]
    for row in card.itertuples():
        value = "" if pd.isna(row.value) else f"{row.value:.3g}"
        lines.append(f"| {row.check} | {value} | {row.healthy} | {mark[row.verdict]} | {row.source} |")
    return said.rstrip(".") + "\n\n" + "\n".join(lines)


def record(card: pd.DataFrame, health: dict, figures: dict, melting: dict[str, pd.DataFrame]) -> dict:
    """What embedding.json keeps: the scorecard, the figures behind it, the pairs of moods. NaN becomes None."""
    rows = card.astype(object).where(card.notna(), None).to_dict("records")
    pairs = {name: table.round(4).to_dict("records") for name, table in melting.items()}
    return {"scorecard": rows, "health": health, "similarity": figures, "mood_pairs": pairs}
