"""Faults planted in a copy of a catalogue, so that a reader sees each rule fail."""

import numpy as np
import pandas as pd

from lib.quality.rules import RULES

DROPPED = "album"  # the column that the copy lacks
MISSPELT = "mood with a typo"


def plant(tracks: pd.DataFrame, requests: pd.DataFrame, rows: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return copies of a catalogue and its requests with faults: each rule of rules.yaml fails.

    Args:
        rows: tracks that get the fault of each rule on a column; fewer in a small catalogue.
        seed: the random seed that chooses these tracks; no track gets two of the faults.
    """
    rules, rng = [*RULES["columns"], RULES["tables"]["songs"]], np.random.default_rng(seed)
    broken, rows = _of_tables(tracks.reset_index(drop=True), rng), min(rows, len(tracks) // (2 * len(rules)))
    others, *places = np.split(rng.permutation(len(tracks))[: rows * (len(rules) + 1)], len(rules) + 1)
    for rule, place in zip(rules, places, strict=True):
        column, fault = rule.get("column") or rule["columns"][0], rule["fault"]
        original = tracks[column].to_numpy()[others]
        copies = {"COPY": original, "SHOUTED": [f"{text}!!".upper() for text in original]}
        copies["VERSION"] = [f"{text} (Live at Home)" for text in original]
        copies["LONG"] = [300 * "word " for _ in original]
        broken.loc[place, column] = copies.get(fault, fault)
        if fault == "VERSION":
            broken.loc[place, "artist"] = tracks["artist"].to_numpy()[others]
    return broken, _of_splits(requests)


def _of_tables(tracks: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return a copy that breaks the rules on the whole catalogue."""
    share, test = rng.random(len(tracks)), tracks["split"] == "test"
    some = tracks.loc[tracks["split"] == "train", "text"].head(5)
    leaked = tracks.index[test][: len(some)]
    broken = tracks.drop(columns=DROPPED).assign(liveness=0.1, loudness=tracks["loudness"] - 9)
    broken["mood"] = broken["mood"].replace({"calm": MISSPELT})
    broken.loc[:1, "mood"] = "one of a kind"
    broken.loc[share < 0.6, "speechiness"] = 0.05
    broken.loc[share < 0.3, "tags"] = ""
    broken.loc[share < 0.15, "artist"] = "Various Artists"
    broken.loc[leaked, "text"] = some.to_numpy()[: len(leaked)]
    return broken


def _of_splits(requests: pd.DataFrame) -> pd.DataFrame:
    """Return requests that break the rules on the splits: some are in two, one split has none, some have no answer."""
    twice = requests[requests["split"] == "train"].head(3).assign(split="test")
    broken = pd.concat([requests[requests["split"] != "dev"], twice], ignore_index=True)
    unanswered = broken.index < 2
    return broken.assign(track_ids=[[] if no else ids for no, ids in zip(unanswered, broken["track_ids"], strict=True)])
