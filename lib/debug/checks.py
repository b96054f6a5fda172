"""What is wrong with an embedding space: checks on texts, on the encoder, on the vectors, and who the suspects are."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from lib.core.encoder import embed
from lib.core.errors import WorkbookError
from lib.core.files import fingerprint
from lib.core.measures import cosines, uniformity
from lib.core.paths import shown
from lib.debug import similarity
from lib.search.index import TRACKS
from lib.search.match import BANDS

NEIGHBOURS = 10
FEWEST = 2 * NEIGHBOURS + 1  # tracks, below which neither neighbours nor a map say anything
LIMIT = similarity.EXACT  # tracks looked at together; of a larger catalogue a sample
NEAR_VECTORS, NEAR_WORDS = 0.99, 0.8  # cosine, and share of words in common, from which two are near-duplicates
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


class Space(NamedTuple):
    """What the debugger looks at.

    Attributes:
        index, tracks: (n, d) vectors as they are served and their tracks, all or a sample of `LIMIT`.
        near, cosine: (n, k) rows of each track's nearest others and their cosines; None where nobody is nearer.
        sampled: whether index is a sample.
        sample: the m tracks on which encoders are compared.
        vectors: encoder -> (m, d) vectors of them.
        not_finite: how many values of all these vectors were not finite; their tracks are left out of the above.
        said: all this in words.
    """

    index: np.ndarray
    tracks: pd.DataFrame
    near: np.ndarray | None
    cosine: np.ndarray | None
    sampled: bool
    sample: pd.DataFrame
    vectors: dict[str, np.ndarray]
    not_finite: int
    said: str


def open_space(run: Path, models: dict, most: int, seed: int) -> Space:
    """Read a run's index, and encode with the other encoders up to `most` of the tracks that training never saw.

    Args:
        models: name -> encoder; the one named tuned has made the index.

    Raises:
        WorkbookError: the index does not fit the catalogue, or hardly any of its vectors is finite.
    """
    stored = np.load(run / "index" / "vectors.npy", mmap_mode="r")
    tracks, listed = pd.read_parquet(run / "tracks.parquet"), pd.read_feather(run / "index" / TRACKS)
    if len(stored) != len(tracks) or list(listed["id"]) != list(tracks["id"]):
        raise WorkbookError(f"{shown(run)}: index/ was made from another catalogue. Run 03_finetune again.")
    tracks["title"] = listed["title"]  # of a track without one, its text's opening
    rows = sample(len(tracks), seed)
    index, served = np.array(stored[rows]), tracks.iloc[rows]
    unseen = tracks[tracks["split"] == "test"]
    pool = unseen if len(unseen) >= FEWEST else tracks
    chosen = pool.sample(min(most, len(pool)), random_state=seed)
    vectors = {n: stored[chosen.index] if n == "tuned" else embed(m, chosen["text"]) for n, m in models.items()}
    whole, good = np.isfinite(index).all(axis=1), np.isfinite(np.hstack(list(vectors.values()))).all(axis=1)
    if min(whole.sum(), good.sum()) < 2:
        bad = [name for name, v in vectors.items() if not np.isfinite(v).all()]
        raise WorkbookError(
            f"vectors of {' and '.join(bad) or 'the index'} are not finite numbers: there is no space to look into. "
            "Train again with a lower lr, or name another base_model."
        )
    found = neighbours(index[whole])
    near, cosine = found if found else (None, None)
    said = f"Served: {'a sample of ' if len(rows) < len(tracks) else ''}{len(rows):,} of {len(tracks):,} tracks. "
    said += f"Compared: {len(chosen):,} of {len(pool):,} tracks"
    said += " that training never saw." if pool is unseen else f": only {len(unseen)} of them were never trained on."
    return Space(
        index[whole], served[whole].reset_index(drop=True), near, cosine, len(rows) < len(tracks),
        chosen[good].reset_index(drop=True), {n: v[good] for n, v in vectors.items()},
        int(sum((~np.isfinite(v)).sum() for v in (index, *vectors.values()))), said,
    )  # fmt: skip


# the texts
def texts(table: pd.DataFrame, model, near: np.ndarray | None) -> dict[str, float]:
    """Shares of repeated and near-duplicate descriptions, and of texts that the encoder cuts.

    Args:
        table: the tracks, with description and text.
        near: (n, k) rows of each track's nearest neighbours: where near-duplicates are looked for. None: not looked.
    """
    description = table["description"].where(table["description"] != "", table["text"])
    found = {
        "repeated descriptions": float(description.duplicated(keep=False).mean()),
        "texts cut at the token limit": float((token_lengths(model, table["text"]) > limit(model)).mean()),
    }
    if near is not None:
        found["near-duplicate descriptions"] = float((words_in_common(description, near) >= NEAR_WORDS).mean())
    return found


def token_lengths(model, texts) -> np.ndarray:
    """Tokens of each text before any are cut, with the encoder's own marks. (n,) of str -> (n,) of int."""
    tokens = model.tokenizer(list(texts), truncation=False, return_attention_mask=False, verbose=False)
    return np.array([len(ids) for ids in tokens["input_ids"]])


def limit(model) -> int:
    """The most tokens that the encoder reads."""
    return model.max_seq_length or np.iinfo(np.int32).max


def words_in_common(descriptions: pd.Series, near: np.ndarray) -> np.ndarray:
    """For each description the largest share of words (Jaccard) that it has in common with a neighbour's. -> (n,)."""
    words = [set(text.casefold().split()) for text in descriptions]
    shares = [[len(words[i] & words[j]) / max(1, len(words[i] | words[j])) for j in row] for i, row in enumerate(near)]
    return np.array(shares).max(axis=1)


def enough(n: int, moods: pd.Series, dimension: int) -> pd.DataFrame:
    """What each statistic needs, against what there is. -> columns statistic, needs, has, enough."""
    count = moods[moods != ""].value_counts()
    rows = [
        ("neighbours, hubs, map: tracks", FEWEST, n),
        (f"effective rank: tracks, over the {dimension} dimensions", dimension + 1, n),
        ("mean cosine to ±0.01: tracks", 100, n),
        ("moods to compare", 2, int((count >= 2).sum())),
        (f"every mood: at least {similarity.FEWEST} tracks", similarity.FEWEST, int(count.min()) if len(count) else 0),
    ]
    table = pd.DataFrame(rows, columns=["statistic", "needs", "has"])
    return table.assign(enough=np.where(table["has"] >= table["needs"], "yes", "no: read it with care"))


# the encoder
def facts(model, path: Path) -> dict[str, str]:
    """What the encoder is: device, type of its numbers, dimension, token limit, parameters, fingerprint."""
    weights = next(model.parameters())
    return {
        "device": str(model.device),
        "dtype": str(weights.dtype).removeprefix("torch."),
        "dimension": str(model.get_embedding_dimension()),
        "token limit": str(model.max_seq_length or "none"),
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "fingerprint": fingerprint(path)[:16],
    }


def steadiness(model, texts: list[str]) -> dict[str, float]:
    """Largest difference of a coordinate over its tolerance: a text alone or in a batch; on the CPU or the GPU."""
    batch, own = embed(model, texts), model.device
    alone = np.concatenate([embed(model, [text]) for text in texts])
    found = {"alone or in a batch: difference / tolerance": float(np.abs(batch - alone).max() / TOLERANCE[own.type])}
    if own.type != "cpu":
        on_cpu = embed(model.to("cpu"), texts)
        model.to(own)
        found["CPU or GPU: difference / tolerance"] = float(np.abs(batch - on_cpu).max() / TOLERANCE[own.type])
    return found


def forms(model, texts: list[str]) -> pd.Series:
    """How far another way to write a text moves its vector: the smallest cosine over those it changes, by form."""
    texts, cosine = [*PROBES, *texts], {}
    own = embed(model, texts)
    for name, write in FORMS.items():
        changed = [i for i, text in enumerate(texts) if write(text) != text]
        moved = embed(model, [write(texts[i]) for i in changed])
        cosine[name] = float((own[changed] * moved).sum(axis=1).min())
    return pd.Series(cosine, name="smallest cosine")


def worst_forms(cosine: pd.Series) -> dict[str, float]:
    """The two checks on forms, from `forms`. Full-width letters are left out: the search mends them itself."""
    cosine = cosine.drop("full-width letters")
    unicode = cosine.index.str.contains("Unicode|no-break")
    return {"white space and case: cosine": cosine[~unicode].min(), "Unicode forms: cosine": cosine[unicode].min()}


# the vectors
def sample(n: int, seed: int) -> np.ndarray:
    """All rows of n, or a random `LIMIT` of them in random order."""
    return np.arange(n) if n <= LIMIT else np.random.default_rng(seed).choice(n, LIMIT, replace=False)


def health(vectors: np.ndarray) -> dict[str, float | None]:
    """Norms, values that are not finite, constant dimensions, effective rank, mean cosine, uniformity. (n, d).

    Effective rank is exp of the entropy of the normalised singular values (Roy and Vetterli 2007), here over the most
    possible, the smaller of n - 1 and d. All but the first are of the finite vectors; None where there are too few.
    """
    finite = vectors[np.isfinite(vectors).all(axis=1)]
    found = {"values that are not finite": int((~np.isfinite(vectors)).sum())}
    if len(finite) < 2:
        return found
    norms, n = np.linalg.norm(finite, axis=1), len(finite)
    values = np.linalg.svd(finite - finite.mean(axis=0), compute_uv=False)
    share = values[values > 1e-6 * n**0.5]
    share = share / share.sum()
    rank = float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0
    return found | {
        "smallest norm": float(norms.min()),
        "largest norm": float(norms.max()),
        "constant dimensions": float((finite.std(axis=0) < 1e-6).mean()),
        "effective rank": rank,
        "effective rank / most possible": rank / min(n - 1, vectors.shape[1]),
        "mean cosine (anisotropy)": float((np.linalg.norm(finite.sum(axis=0)) ** 2 - (norms**2).sum()) / (n * (n - 1))),
        "uniformity": uniformity(cosines(finite)),
    }


def can_compare(vectors: np.ndarray) -> bool:
    """Whether there are `FEWEST` tracks, not all of one vector: else nobody is nearer than anybody. (n, d)."""
    return len(vectors) >= FEWEST and np.ptp(vectors, axis=0).max() > 1e-5


def neighbours(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Each track's nearest others by cosine, exact, nearest first. (n, d) -> rows (n, k), cosines (n, k).

    None where there are too few: see `can_compare`.
    """
    if not can_compare(vectors):
        return None
    distance, rows = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(vectors).kneighbors()
    return rows, 1 - distance**2 / 2  # of unit vectors


def hubs(near: np.ndarray) -> tuple[float, np.ndarray]:
    """How often each is among others' neighbours, and how skewed that is (Radovanović et al. 2010).

    Returns:
        The skewness, 0 where all are so equally often; (n,) times.
    """
    times = np.bincount(near.ravel(), minlength=len(near))
    return float(stats.skew(times)) if np.ptp(times) else 0.0, times


def duplicates(cosine: np.ndarray) -> dict[str, float]:
    """Shares of tracks that have a neighbour with the same vector, and with nearly the same. (n, k) cosines."""
    nearest = cosine[:, 0]
    return {
        "tracks with an identical vector": float((nearest >= 1 - 1e-6).mean()),
        "tracks with a near-identical vector": float((nearest >= NEAR_VECTORS).mean()),
    }


# the suspects
def hub_table(tracks: pd.DataFrame, times: np.ndarray) -> pd.DataFrame:
    """The tracks that are most others' neighbours, most first."""
    table = tracks[["id", "title", "artist", "mood"]].assign(neighbour_of=times)
    return table.sort_values("neighbour_of", ascending=False, kind="stable")


def suspects(tracks: pd.DataFrame, near: np.ndarray) -> pd.DataFrame:
    """Tracks whose neighbours agree on another mood than theirs (most of all neighbours), surest first.

    Returns:
        Columns id, title, artist, mood, neighbours_say, share (of the neighbours), nearest (title of the first).
    """
    code, names = pd.factorize(tracks["mood"])
    votes = np.zeros((len(tracks), len(names)), dtype=int)
    np.add.at(votes, (np.arange(len(tracks))[:, None], code[near]), 1)
    votes[:, [i for i, name in enumerate(names) if name == ""]] = 0  # an unknown mood contradicts nobody
    first = votes.argmax(axis=1)
    table = tracks[["id", "title", "artist", "mood"]].assign(
        neighbours_say=names[first],
        share=votes.max(axis=1) / near.shape[1],
        nearest=tracks["title"].to_numpy()[near[:, 0]],
    )
    wrong = (first != code) & (table["share"] > 0.5) & (table["mood"] != "")
    return table[wrong].sort_values("share", ascending=False, kind="stable")


def lonely(asked: np.ndarray, requests: pd.DataFrame, vectors: np.ndarray, tracks: pd.DataFrame) -> pd.DataFrame:
    """The requests in order of how near their nearest track is, farthest first. -> text, cosine, nearest, artist."""
    cosine = asked @ vectors.T
    best = cosine.argmax(axis=1)
    nearest = tracks[["title", "artist", "mood"]].iloc[best].reset_index(drop=True).add_prefix("nearest_")
    table = requests[["text"]].reset_index(drop=True).assign(cosine=cosine.max(axis=1)).join(nearest)
    return table.sort_values("cosine", kind="stable", ignore_index=True)


def near_to_nothing(table: pd.DataFrame) -> dict[str, float]:
    """The share of requests with no track above the seed's weak band, from `lonely`."""
    return {"requests near to nothing": float((table["cosine"] < BANDS["borderline"]).mean())} if len(table) else {}


def mood_checks(figures: dict[str, dict]) -> dict[str, float | None]:
    """The three checks on moods, from `similarity.figures` of base and tuned."""
    base, tuned = (figures[name]["same mood is closer"] for name in ("base", "tuned"))
    return {
        "same mood is closer": tuned,
        "same mood is closer, over base": None if tuned is None else tuned - base,
        "overlap of moods": figures["tuned"]["overlap"],
    }


def can_map(vectors: dict[str, np.ndarray]) -> bool:
    """Whether there are enough different vectors for a map; prints why not."""
    if all(map(can_compare, vectors.values())):
        return True
    n = len(next(iter(vectors.values())))
    print(f"A map needs at least {FEWEST} tracks; there are {n}{', all with one vector' if n >= FEWEST else ''}.")
    return False
