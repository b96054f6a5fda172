"""From events to impressions: a row for each track that an answer showed, with what the listener did with it."""

import numpy as np
import pandas as pd

from lib.core.errors import WorkbookError

# What an event says of the track. A track that is played and skipped counts below one that nobody tried.
GAINS = {"played": 1, "liked": 1, "skipped": -2, "disliked": -3}


def impressions(events: pd.DataFrame, catalogue: pd.Series) -> pd.DataFrame:
    """Join each track that was shown with the events that it got.

    Returns:
        Columns request, session, track, position, at, model, text (None without --log-text), a column of bool for each
        kind of `GAINS`, tried (any of them), and gain, their sum. Events of tracks that were not shown, or that the
        catalogue lacks, are left out.

    Raises:
        WorkbookError: there is no event, or none of the kind shown.
    """
    shown = events[(events["kind"] == "shown") & events["request"].notna() & events["position"].notna()]
    shown = shown[shown["track"].isin(catalogue)]
    if shown.empty:
        raise WorkbookError(
            f"{len(events):,} events, and none shows a track of this run: there is nothing to learn from. Name "
            "other hours by since and until, or let listeners ask first."
        )
    shown = shown.drop_duplicates(["request", "track"]).astype({"position": int})
    acts = events[events["kind"].isin(GAINS)].drop_duplicates(["request", "track", "kind"])
    acts = pd.crosstab([acts["request"], acts["track"]], acts["kind"]).reindex(columns=list(GAINS), fill_value=0)
    columns = ["request", "session", "track", "position", "at", "model", "text"]
    table = shown[columns].merge(acts.reset_index(), "left", ["request", "track"])
    table[list(GAINS)] = table[list(GAINS)].fillna(0).astype(bool)
    gain = table[list(GAINS)].to_numpy() @ np.array(list(GAINS.values()))
    return table.assign(tried=table[list(GAINS)].any(axis=1), gain=gain)


def funnel(shown: pd.DataFrame) -> pd.Series:
    """Return how many impressions were shown, played and liked, and how many skipped or disliked."""
    bad = shown["skipped"] | shown["disliked"]
    counts = {"shown": len(shown), "played": shown["played"].sum(), "liked": shown["liked"].sum()}
    return pd.Series(counts | {"skipped or disliked": bad.sum()}).astype(int)


def summary(shown: pd.DataFrame, catalogue: int) -> pd.Series:
    """Return the counts of requests and sessions, and the shares of the catalogue that nobody saw or played."""
    sessions = shown.groupby("session")
    return pd.Series(
        {
            "sessions": sessions.ngroups,
            "requests": shown["request"].nunique(),
            "different texts": shown["text"].nunique(),
            "requests a session, mean": round(sessions["request"].nunique().mean(), 2),
            "plays a session, mean": round(sessions["played"].sum().mean(), 2),
            "sessions without a play": f"{1 - sessions['played'].any().mean():.0%}",
            "catalogue never shown": f"{1 - shown['track'].nunique() / catalogue:.0%}",
            "catalogue never played": f"{1 - shown.loc[shown['played'], 'track'].nunique() / catalogue:.0%}",
        }
    )


def with_text(shown: pd.DataFrame) -> pd.DataFrame:
    """Return the impressions whose request has a text, made `normal`.

    Raises:
        WorkbookError: no event has a text.
    """
    shown = shown[shown["text"].notna()]
    if shown.empty:
        raise WorkbookError(
            "no event has the text of its request, and a text is what an encoder learns from. Start the service or the "
            "tier with --log-text; docs/listeners.md says what that means for listeners."
        )
    return shown.assign(text=normal(shown["text"]))


def normal(texts: pd.Series) -> pd.Series:
    """Return texts without capitals and double spaces: the same request, typed twice, is one text."""
    return texts.str.split().str.join(" ").str.casefold()


def by_time(shown: pd.DataFrame, later: float) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Split impressions into earlier and later ones, so that no session and no text is in both.

    A session belongs to the side of its first request. The border is a full hour if there are several.

    Args:
        later: the share of the time that measures.

    Returns:
        The earlier and the later impressions, and the number of later requests left out for a text that came earlier.

    Raises:
        WorkbookError: one side is empty.
    """
    begin = shown["at"].groupby(shown["session"].fillna(shown["request"])).transform("min")
    border = begin.min() + (1 - later) * (begin.max() - begin.min())
    if begin.max() - begin.min() > pd.Timedelta(hours=2):
        border = border.round("h")
    before, after = shown[begin < border], shown[begin >= border]
    old = after["text"].isin(before["text"])
    if before.empty or old.all():
        raise WorkbookError(
            f"{before['request'].nunique():,} requests before {border:%Y-%m-%d %H:%M} UTC and "
            f"{after.loc[~old, 'request'].nunique():,} with a new text after it: too few to train and to measure. "
            "Read more hours: an earlier since."
        )
    return before, after[~old], after.loc[old, "request"].nunique()
