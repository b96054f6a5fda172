"""The scorecard of an embedding space: each check's value against what is healthy, and where that comes from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.core.measures import CROWDED
from lib.debug.checks import NEAR_VECTORS, NEAR_WORDS


class Check(NamedTuple):
    """A line of the scorecard: healthy from `low` to `high`, where that comes from, what to do, and if it is fatal."""

    name: str
    low: float
    high: float
    source: str
    cure: str
    fatal: bool = False

    def range(self) -> str:
        """What is healthy, in words."""
        if self.low == self.high:
            return self.text(self.low)
        if np.isinf(self.low):
            return f"at most {self.text(self.high)}"
        return f"at least {self.text(self.low)}" + ("" if np.isinf(self.high) else f", at most {self.text(self.high)}")

    def text(self, value: float) -> str:
        """A value as people read it: a share in percent."""
        return f"{100 * value:.3g} %" if self.source.startswith("share") else f"{value:.4g}"


ANY = np.inf
UNIT = "float32 rounding of unit vectors"
RULE = "rule of thumb of ours"
# fmt: off
CHECKS = (
    Check("values that are not finite", 0, 0, "nothing can be ranked by NaN",
          "training diverged: lower lr", True),
    Check("smallest norm", 0.999, 1.001, UNIT,
          "encode with normalize_embeddings=True", True),
    Check("largest norm", 0.999, 1.001, UNIT,
          "encode with normalize_embeddings=True", True),
    Check("constant dimensions", -ANY, 0.01, f"share that carries nothing; MiniLM has 3 of 384; {RULE}",
          "a few do no harm; many: lower lr, or more kinds of text"),
    Check("effective rank / most possible", 0.1, ANY, f"Roy and Vetterli 2007; {RULE}",
          "the space has shrunk: lower lr, larger batch_size, or keep more of the base (keep_base)"),
    Check("mean cosine (anisotropy)", -ANY, 0.5, f"Ethayarajh 2019; {RULE}",
          "all resemble all: a larger batch_size pushes more apart; fixed thresholds mean nothing here"),
    Check("uniformity", -ANY, CROWDED, "Wang and Isola 2020; -1.2 is all pairs at cosine 0.7",
          "the space has collapsed: lower lr, larger batch_size, or keep more of the base (keep_base)", True),
    Check("hubness (skewness)", -ANY, 1.4, f"Radovanović et al. 2010; {RULE}",
          "look at the hubs below: texts that fit everything need words that tell them apart"),
    Check("tracks with an identical vector", -ANY, 0.01, f"share; {RULE}",
          "remove the duplicates that notebook 02 lists, or describe what tells them apart"),
    Check("tracks with a near-identical vector", -ANY, 0.05, f"share with a cosine from {NEAR_VECTORS}; {RULE}",
          "describe what tells these tracks apart"),
    Check("repeated descriptions", -ANY, 0.01, f"share; {RULE}",
          "describe each track; with features or genre, describe_from words one"),
    Check("near-duplicate descriptions", -ANY, 0.05, f"share with {NEAR_WORDS:.0%} of words in common; {RULE}",
          "describe what tells these tracks apart"),
    Check("texts cut at the token limit", -ANY, 0.05, f"share; {RULE}",
          "raise max_length, or shorten the descriptions"),
    Check("alone or in a batch: difference / tolerance", -ANY, 1, "tolerance: 1e-5 of a coordinate on a CPU, else 1e-3",
          "padding leaks into the vectors: check the model's attention mask"),
    Check("CPU or GPU: difference / tolerance", -ANY, 1, "tolerance: 1e-3 of a coordinate",
          "encode in float32 on both"),
    Check("white space and case: cosine", 0.99, ANY, f"smallest over the forms; {RULE}",
          "lower-case and strip requests before they are encoded"),
    Check("Unicode forms: cosine", 0.9, ANY, f"smallest over the forms; {RULE}",
          "see which form, under The encoder; put texts into NFKC before they are encoded"),
    Check("same mood is closer", 0.6, ANY, f"area under the ROC curve, chance 0.5; {RULE}",
          "check the moods (Suspects, below), or train on more pairs"),
    Check("same mood is closer, over base", 0, ANY, "tuning should raise it",
          "train on more pairs, or keep more of the base (keep_base)"),
    Check("overlap of moods", -ANY, 0.9, f"Weitzman 1970; {RULE}",
          "check the moods (Suspects, below); rename or merge those that overlap most"),
    Check("trustworthiness of the map", 0.9, ANY, f"Venna and Kaski 2001; {RULE}",
          "read no structure into the map; the other figures stand"),
    Check("tracks whose neighbours say another mood", -ANY, 0.2, f"share, most neighbours agreeing; {RULE}",
          "check the moods of the tracks under Suspects"),
    Check("requests near to nothing", -ANY, 0.1, f"share with no track above 0.4, the seed's weak band; {RULE}",
          "read them under Suspects: songs to add, or words to teach"),
)


# fmt: on
def judge(found: dict[str, float | None]) -> pd.DataFrame:
    """What was found, against what is healthy.

    Args:
        found: the name of a check -> its value; None or missing where it could not be measured.

    Returns:
        Columns check, value, said (the value as people read it), healthy, verdict (ok, look, broken, not measured),
        source, cure, in the order of `CHECKS`.
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
        said = "" if value is None else check.text(value)
        rows.append((check.name, value, said, check.range(), verdict, check.source, check.cure))
    return pd.DataFrame(rows, columns=["check", "value", "said", "healthy", "verdict", "source", "cure"])


def headline(card: pd.DataFrame) -> str:
    """The scorecard as Markdown: how many checks are healthy, what to do about the others, then the table."""
    measured, amiss = card[card["verdict"] != "not measured"], card[card["verdict"].isin(["look", "broken"])]
    healthy, missing = len(measured) - len(amiss), len(card) - len(measured)
    lines = [f"**{healthy} of {len(measured)} checks are healthy**, {missing} not measured.", ""]
    lines += [f"- **{r.check}**: {r.said}, healthy is {r.healthy}. What to do: {r.cure}." for r in amiss.itertuples()]
    mark = {"ok": "✓ ok", "look": "▲ **look**", "broken": "✗ **broken**", "not measured": "– not measured"}
    lines += ["", "| check | verdict | value | healthy | source |", "| --- | --- | ---: | --- | --- |"]
    lines += [f"| {r.check} | {mark[r.verdict]} | {r.said} | {r.healthy} | {r.source} |" for r in card.itertuples()]
    return "\n".join(lines)


def record(card: pd.DataFrame, health: dict, figures: dict, melting: dict[str, pd.DataFrame]) -> dict:
    """What embedding.json keeps: the scorecard, the figures behind it, the pairs of moods. NaN becomes None."""
    rows = card.astype(object).where(card.notna(), None).to_dict("records")
    pairs = {name: table.round(4).to_dict("records") for name, table in melting.items()}
    return {"scorecard": rows, "health": health, "similarity": figures, "mood_pairs": pairs}
