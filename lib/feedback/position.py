"""The bias of positions: a listener looks at the first tracks of an answer more than at the last.

The model is position-based (Craswell et al. 2008): a track is tried if the listener looks at its place, with the chance
`propensity` of the place, and if it suits the request. Gains over the propensity of their places are then free of the
place's effect (inverse-propensity scoring, Joachims, Swaminathan and Schnabel 2017). `learning.graded` divides the sum
of gains by the sum of propensities, which has less variance (self-normalised, Swaminathan and Joachims 2015).

The log itself gives the propensities where it showed the same track for the same text at several places, as it does
when likes and recent tracks of a session move an answer (intervention harvesting, Agarwal et al. 2019).
"""

import numpy as np
import pandas as pd

ENOUGH = 100  # tries of tracks that were seen at several places, below which nothing is corrected
STEPS = 500  # of the fitting, which ends at a fixed point


def propensities(shown: pd.DataFrame) -> pd.DataFrame:
    """Estimate how often listeners look at each place, relative to the first.

    Tries c and impressions n of a text's track i at the place k are fitted as c = n · relevance_i · propensity_k, by
    proportional fitting: the maximum likelihood of Poisson counts with an effect for each text's track. A track that
    was seen at one place only changes nothing, so nothing must be assumed about how good the tracks of a place are.

    Args:
        shown: impressions with a text.

    Returns:
        Index position; columns shown, rate (tries an impression), compared (impressions of tracks seen at several
        places), propensity (1 for the first; all 1 with fewer than `ENOUGH` tries of such tracks).
    """
    places = np.sort(shown["position"].unique())
    k, item = np.searchsorted(places, shown["position"]), shown.groupby(["text", "track"]).ngroup().to_numpy()
    tried = shown["tried"].to_numpy(float)
    seen = pd.Series(k).groupby(item).nunique().to_numpy()[item] > 1
    count = lambda of, weights=None: np.bincount(of, weights, len(places))  # noqa: E731
    table = pd.DataFrame({"shown": count(k), "rate": count(k, tried) / count(k), "compared": count(k[seen])})
    propensity = np.ones(len(places))
    if tried[seen].sum() >= ENOUGH:
        k, item, tried = k[seen], pd.factorize(item[seen])[0], tried[seen]
        tries, hits = np.bincount(item, tried), count(k, tried)
        for _ in range(STEPS):
            relevance = tries / np.bincount(item, propensity[k])
            expected = count(k, relevance[item])
            propensity = np.divide(hits, expected, out=np.zeros(len(places)), where=expected > 0)
            propensity /= propensity[0] or 1
    return table.assign(propensity=propensity).set_index(pd.Index(places, name="position"))


def looks(shown: pd.DataFrame, propensity: pd.Series, clip: float) -> np.ndarray:
    """Return the expected looks at each impression: the propensity of its place, at least `clip`. -> (n,); 1: all look.

    A gain over a small propensity counts much, and so one accidental play decides: clipping trades variance for bias.
    """
    return np.clip(propensity.reindex(shown["position"]).to_numpy(), clip, 1)
