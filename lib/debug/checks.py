"""Checks of the texts, the encoder and the vectors: values by the names of scorecard.yaml."""

import unicodedata

import numpy as np
import pandas as pd
from scipy import stats

from lib.core.encoder import embed
from lib.core.measures import ENOUGH, cosines, uniformity
from lib.debug.space import FEWEST

NEAR_VECTORS, NEAR_WORDS = 0.99, 0.8  # least cosine and least share of common words of near-duplicates
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-3, "mps": 1e-3}  # largest difference of a coordinate that rounding explains
FORMS = {
    "lower case": str.lower,
    "upper case": str.upper,
    "white space": lambda text: "  " + text.replace(" ", " \t ") + "\n",
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "Unicode decomposed (NFD)": lambda text: unicodedata.normalize("NFD", text),
    "full-width letters": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
}
PROBES = ["Señorita naïve — Beyoncé & Björk (À la Carte)", "Ünïcödé café jazz, très chill"]


def token_lengths(model, texts) -> np.ndarray:
    """Return each text's number of tokens before cutting, with the encoder's special tokens. (n,) -> (n,) of int."""
    tokens = model.tokenizer(list(texts), truncation=False, return_attention_mask=False, verbose=False)
    return np.array([len(ids) for ids in tokens["input_ids"]])


def descriptions(tracks: pd.DataFrame, near: np.ndarray | None) -> dict[str, float]:
    """Return the shares of repeated descriptions, and of those similar in words (Jaccard) to a neighbour's.

    The text stands for a description of fewer than three words, such as an inferred mood.

    near: (n, k) rows of each track's neighbours; None: near-duplicates are not searched.
    """
    texts = tracks["description"].where(tracks["description"].str.count(" ") > 1, tracks["text"])
    results = {"repeated descriptions": float(texts.duplicated(keep=False).mean())}
    if near is not None:
        words = [set(text.casefold().split()) for text in texts]
        pairs = [[(words[i], words[j]) for j in row] for i, row in enumerate(near)]
        common = [max(len(a & b) / max(1, len(a | b)) for a, b in row) for row in pairs]
        results["near-duplicate descriptions"] = float((np.array(common) >= NEAR_WORDS).mean())
    return results


def sample_sizes(n: int, moods: pd.Series, dimension: int) -> pd.DataFrame:
    """Compare the number of tracks with the number that each statistic needs. -> statistic, needs, has, enough."""
    count = moods[moods != ""].value_counts()
    rows = [
        ("neighbours, hubs, map: tracks", FEWEST, n),
        (f"effective rank: tracks, over the {dimension} dimensions", dimension + 1, n),
        ("mean cosine to ±0.01: tracks", 100, n),
        (f"moods to compare, of {ENOUGH} tracks or more", 2, int((count >= ENOUGH).sum())),
        ("smallest mood: tracks", ENOUGH, int(count.min()) if len(count) else 0),
    ]
    table = pd.DataFrame(rows, columns=["statistic", "needs", "has"])
    return table.assign(enough=np.where(table["has"] >= table["needs"], "yes", "no: read it with care"))


def steadiness(model, texts: list[str]) -> dict[str, float]:
    """Compare vectors of texts encoded alone or in a batch, and on the CPU or the GPU.

    For each comparison: the largest difference of a coordinate, divided by its tolerance.
    """
    batch, own = embed(model, texts), model.device
    others = {"alone or in a batch": np.concatenate([embed(model, [text]) for text in texts])}
    if own.type != "cpu":
        others["CPU or GPU"] = embed(model.to("cpu"), texts)
        model.to(own)
    largest = {name: np.nan_to_num(np.abs(batch - other), nan=np.inf).max() for name, other in others.items()}
    return {f"{name}: difference / tolerance": float(d / TOLERANCE[own.type]) for name, d in largest.items()}


def written_forms(model, texts: list[str]) -> pd.Series:
    """Return for each written form the smallest cosine of a text and its changed form."""
    texts = [*PROBES, *texts]
    original, written = embed(model, texts), {name: map(write, texts) for name, write in FORMS.items()}
    smallest = {name: float((original * embed(model, forms)).sum(axis=1).min()) for name, forms in written.items()}
    return pd.Series(smallest, name="smallest cosine")


def form_checks(smallest: pd.Series) -> dict[str, float]:
    """Return the two checks on `written_forms`, without full-width letters, which the search normalises itself."""
    smallest = smallest.drop("full-width letters")
    unicode = smallest.index.str.contains("Unicode|no-break")
    return {"white space and case: cosine": smallest[~unicode].min(), "Unicode forms: cosine": smallest[unicode].min()}


def health(vectors: np.ndarray) -> dict[str, float]:
    """Return norms, constant dimensions, effective rank, mean cosine and uniformity of the finite vectors. (n, d).

    Effective rank is exp of the entropy of the normalised singular values (Roy and Vetterli 2007), at most the smaller
    of n - 1 and d. Of fewer than two finite vectors only the number of values that are not finite is returned.
    """
    finite = vectors[np.isfinite(vectors).all(axis=1)]
    results = {"values that are not finite": int((~np.isfinite(vectors)).sum())}
    if len(finite) < 2:
        return results
    norms, n = np.linalg.norm(finite, axis=1), len(finite)
    values = np.linalg.svd(finite - finite.mean(axis=0), compute_uv=False)
    values = values[values > 1e-6 * n**0.5]
    rank = float(np.exp(stats.entropy(values))) if len(values) else 0.0
    return results | {
        "smallest norm": float(norms.min()),
        "largest norm": float(norms.max()),
        "constant dimensions": float((finite.std(axis=0) < 1e-6).mean()),
        "effective rank": rank,
        "effective rank / most possible": rank / min(n - 1, vectors.shape[1]),
        "mean cosine (anisotropy)": float((np.linalg.norm(finite.sum(axis=0)) ** 2 - (norms**2).sum()) / (n * (n - 1))),
        "uniformity": uniformity(cosines(finite)),
    }


def neighbourhood(near: np.ndarray | None, cosine: np.ndarray | None) -> dict[str, float]:
    """Return the hubness (Radovanović et al. 2010) and the shares of duplicate vectors; empty without neighbours.

    near, cosine: (n, k) rows and cosines of each track's neighbours, or None.
    """
    if near is None:
        return {}
    counts, nearest = np.bincount(near.ravel(), minlength=len(near)), cosine[:, 0]
    return {
        "hubness (skewness)": float(stats.skew(counts)) if np.ptp(counts) else 0.0,
        "tracks that are nobody's neighbour": float((counts == 0).mean()),
        "tracks with an identical vector": float((nearest >= 1 - 1e-6).mean()),
        "tracks with a near-identical vector": float((nearest >= NEAR_VECTORS).mean()),
    }
