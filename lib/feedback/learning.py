"""Training pairs and graded requests from impressions, for the pairs and the trainer of notebook 03."""

import numpy as np
import pandas as pd

from lib.core.errors import WorkbookError
from lib.feedback.position import looks
from lib.finetune.pairs import make_pairs

SMALL = 16  # pairs in a batch of listeners: there are 18 moods, and some are rare
GRADES = (0.1, 0.5, 0.8)  # the least gain a look of the grades 1, 2 and 3


def graded(shown: pd.DataFrame, propensity: pd.Series, clip: float, least: int = 1) -> pd.DataFrame:
    """Judge each text's tracks by what listeners did with them, corrected for the place.

    Args:
        shown: impressions with a text.
        clip: the least propensity.
        least: sessions that must have used a text. One listener alone neither teaches nor is remembered.

    Returns:
        A row for each text and track: text, track, gain (a look), looks (expected), sessions (of the text), grade (0 to
        3, by the gain).
    """
    table = shown[["text", "track", "gain"]].assign(looks=looks(shown, propensity, clip))
    table = table.groupby(["text", "track"], as_index=False).sum()
    table["sessions"] = table["text"].map(shown.fillna({"session": "?"}).groupby("text")["session"].nunique())
    # One look more, without a gain: one play of a track that was shown once proves little.
    table["gain"] /= 1 + table["looks"]
    table["grade"] = np.searchsorted(GRADES, table["gain"], side="right")
    return table[table["sessions"] >= least].reset_index(drop=True)


def training_requests(judged: pd.DataFrame, tracks: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """Return the texts with tracks that listeners liked, in the form of a run's requests for training.

    Only tracks of the training split teach: the others stay unseen, so that they can measure.

    Returns:
        The columns of requests.parquet, and gain; a row for each text and track.

    Raises:
        WorkbookError: there is none.
    """
    moods = tracks.loc[tracks["split"] == "train"].set_index("id")["mood"]
    good = judged[(judged["grade"] > 0) & judged["track"].isin(moods.index)]
    if good.empty:
        raise WorkbookError(
            f"listeners liked none of the {len(judged):,} tracks of texts that enough sessions used: there is nothing "
            "to learn. Read more hours, or lower least_sessions."
        )
    lists = {"track_ids": [[track] for track in good["track"]], "grades": [[grade] for grade in good["grade"]]}
    new = good[["text", "gain"]].assign(split="train", target=good["track"], mood=good["track"].map(moods), **lists)
    new["request_id"] = [f"l{i:06d}" for i in range(len(new))]
    return new.reindex(columns=[*requests, "gain"], fill_value="").reset_index(drop=True)


def mixed_pairs(
    tracks: pd.DataFrame, requests: pd.DataFrame, learnt: pd.DataFrame, n: int, share: float, batch_size: int,
    seed: int, **shares: float,
) -> pd.DataFrame:  # fmt: skip
    """Draw training pairs by `make_pairs`: a share of what listeners liked, the rest as in the first training.

    A batch of listeners' pairs has no mood of a track twice, so that its other positives are true negatives.

    Args:
        learnt: `training_requests`; each is drawn in proportion to its gain.
        share: of listeners' pairs.
        shares: of the kinds of the other pairs.
    """
    few = round(n * share)
    drawn = learnt.sample(few, replace=True, weights="gain", random_state=seed)
    alone = {"request_share": 1.0, "mood_share": 0.0, "artist_share": 0.0}
    new = make_pairs(tracks, drawn, few, **alone, batch_size=min(batch_size, SMALL), seed=seed).assign(kind="listeners")
    old = make_pairs(tracks, requests, n - few, **shares, batch_size=batch_size, seed=seed)
    pairs = pd.concat([new, old.assign(batch=old["batch"] + new["batch"].nunique())], ignore_index=True)
    order = np.random.default_rng(seed).permutation(pairs["batch"].nunique())
    return pairs.assign(batch=order[pairs["batch"]]).sort_values("batch", kind="stable", ignore_index=True)
