"""Moods for tracks that come without one, each with a confidence: from audio features, from words, by the encoder.

No labelled catalogue is needed: the features' part is a naive Bayes classifier fitted on synthetic tracks, whose
features are drawn given their mood; the encoder's part compares a track's text with each mood's own vocabulary.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.naive_bayes import GaussianNB

from lib.core.encoder import embed
from lib.core.errors import WorkbookError
from lib.tracks import synthetic
from lib.tracks.moods import MOODS, words_of

EVIDENCE = ("features", "words", "encoder")
FEATURES = ("energy", "valence", "danceability", "acousticness", "instrumentalness", "tempo", "loudness")
FITTED_ON = 20_000  # synthetic tracks
# How much each kind of evidence weighs, in nats. Features are correlated, which naive Bayes ignores: halving its
# log-odds brings its mean confidence near its accuracy (0.70 and 0.67 on 686 real tracks with four moods).
FEATURES_WEIGHT, WORD_WEIGHT, ENCODER_WEIGHT = 0.5, 4.0, 8.0


def infer(table: pd.DataFrame, among: list[str], evidence: list[str], model, seed: int) -> pd.DataFrame:
    """The likeliest mood of each track.

    Args:
        table: with the columns of FEATURES (missing values allowed), title, description, tags, genre, and text.
        among: the moods to choose from, as in moods.yaml; [] for all of them.
        evidence: which of EVIDENCE to use.
        model: the encoder; only used if evidence has "encoder".

    Returns:
        Columns mood ("" where there is no evidence), source (the evidence used, joined by +), confidence (0 to 1).

    Raises:
        WorkbookError: `among` names a mood that is not in moods.yaml, or `evidence` a kind that there is not.
    """
    check(among, evidence)
    moods = [name for name in MOODS if not among or name in among]
    score = np.zeros((len(table), len(moods)))
    source = pd.Series("", index=table.index, dtype="str")
    if "features" in evidence:
        known = table[list(FEATURES)].notna().sum(axis=1).to_numpy() >= 2
        if known.any():
            score[known] += FEATURES_WEIGHT * _by_features(table[known], moods, seed)
        source += np.where(known, "+features", "")
    if "words" in evidence:
        counts = words_of(
            table["title"] + ". " + table["description"] + ". " + table["tags"] + ". " + table["genre"], moods
        )
        score += WORD_WEIGHT * counts
        source += np.where(counts.any(axis=1), "+words", "")
    if "encoder" in evidence:
        score += ENCODER_WEIGHT * _by_encoder(table["text"], moods, model)
        source += "+encoder"
    share = softmax(score, axis=1)
    nothing = (source == "").to_numpy()
    return pd.DataFrame(
        {
            "mood": np.where(nothing, "", np.array(moods)[share.argmax(axis=1)]),
            "source": source.str.removeprefix("+").where(~nothing, "none"),
            "confidence": np.where(nothing, np.nan, share.max(axis=1)).round(3),
        },
        index=table.index,
    )


def check(among: list[str], evidence: list[str]) -> None:
    """Raise WorkbookError if a mood or a kind of evidence is not one that there is."""
    for name, given, known in (("infer_moods", among, MOODS), ("infer_from", evidence, EVIDENCE)):
        if unknown := sorted(set(given) - set(known)):
            raise WorkbookError(f"{name}: {', '.join(unknown)} is not one of {', '.join(known)}.")
    if len(among) == 1:
        raise WorkbookError("infer_moods: one mood alone leaves nothing to infer; name two or more, or [] for all.")


def _by_features(table: pd.DataFrame, moods: list[str], seed: int) -> np.ndarray:
    """Log probability of each mood, from the features that are there; a missing one says nothing. -> (n, moods)."""
    made = synthetic.generate(FITTED_ON, seed)
    made = made[made["mood"].isin(moods)]
    seen, heard = _scaled(made), _scaled(table)
    fitted = GaussianNB().fit(seen, made["mood"])
    order = [list(fitted.classes_).index(mood) for mood in moods]
    mean, variance = fitted.theta_[order], fitted.var_[order]
    each = -0.5 * (np.log(2 * np.pi * variance) + (heard[:, None] - mean) ** 2 / variance)
    score = np.nansum(each, axis=2) + np.log(fitted.class_prior_[order])
    return score - score.max(axis=1, keepdims=True)


def _scaled(table: pd.DataFrame) -> np.ndarray:
    """Features on scales where they are about normal: log-odds for shares, tens of BPM, fives of decibels."""
    columns = []
    for name in FEATURES:
        value = table[name].to_numpy(dtype=float)
        share = np.clip(value, 0, 1)
        columns.append({"tempo": value / 30, "loudness": value / 5}.get(name, np.log((share + 0.01) / (1.01 - share))))
    return np.stack(columns, axis=1)


def _by_encoder(texts: pd.Series, moods: list[str], model) -> np.ndarray:
    """Cosine of each text with each mood's vocabulary, less each mood's mean over the catalogue. -> (n, moods)."""
    prototypes = []
    for mood in (MOODS[name] for name in moods):
        middle = embed(model, [f"{word} music" for word in mood.words["train"]] + mood.sound).mean(axis=0)
        prototypes.append(middle / np.linalg.norm(middle))
    cosine = embed(model, texts, progress=len(texts) > 1000) @ np.stack(prototypes).T
    return cosine - cosine.mean(axis=0)
