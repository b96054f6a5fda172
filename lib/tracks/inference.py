"""Inference of moods for tracks without one, from audio features, from words and by the encoder.

It needs no labelled catalogue. For the features, a naive Bayes classifier is fitted to synthetic tracks, whose features
are drawn given their mood. The encoder compares a track's text with each mood's vocabulary.
"""

from collections.abc import Iterable

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
FITTED_TO = 20_000  # synthetic tracks
# The weight of each kind of evidence, in nats. Features are correlated, which naive Bayes ignores. Half of its log-odds
# bring the mean confidence near the accuracy (0.70 and 0.67 on 686 real tracks with four moods).
FEATURES_WEIGHT, WORD_WEIGHT, ENCODER_WEIGHT = 0.5, 4.0, 8.0


def infer(table: pd.DataFrame, moods: list[str], evidence: list[str], model, seed: int) -> pd.DataFrame:
    """Infer the most likely mood of each track.

    Args:
        table: with the columns of FEATURES (missing values allowed), title, description, tags, genre and text.
        moods: the moods to choose from; [] for all of moods.yaml.
        evidence: the kinds of EVIDENCE to use.
        model: the encoder; needed only if evidence has "encoder".

    Returns:
        mood ("" without evidence), source (the evidence, joined by +; "none" without), confidence (0 to 1, or NaN).

    Raises:
        WorkbookError: a mood is not in moods.yaml, it is the only one, or a kind of evidence does not exist.
    """
    check(moods, evidence)
    moods = [name for name in MOODS if not moods or name in moods]
    score = np.zeros((len(table), len(moods)))
    source = pd.Series("", index=table.index, dtype="str")
    if "features" in evidence:
        measured = (table[list(FEATURES)].notna().sum(axis=1) >= 2).to_numpy()
        if measured.any():
            score[measured] += FEATURES_WEIGHT * _by_features(table[measured], moods, seed)
        source += np.where(measured, "+features", "")
    if "words" in evidence:
        texts = table["title"] + ". " + table["description"] + ". " + table["tags"] + ". " + table["genre"]
        counts = words_of(texts, moods)
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


def check(moods: list[str], evidence: list[str]) -> None:
    """Raise WorkbookError if a mood or a kind of evidence does not exist, or if there is only one mood."""
    check_choices("infer_moods", moods, MOODS)
    check_choices("infer_from", evidence, EVIDENCE)
    if len(moods) == 1:
        raise WorkbookError("infer_moods: one mood leaves no choice. Name two or more, or [] for all.")


def check_choices(parameter: str, values: list[str], choices: Iterable[str]) -> None:
    """Raise WorkbookError if one of a parameter's values is not one of the choices."""
    if wrong := sorted(set(values) - set(choices)):
        raise WorkbookError(f"{parameter}: {', '.join(wrong)} is not one of {', '.join(choices)}.")


def _by_features(table: pd.DataFrame, moods: list[str], seed: int) -> np.ndarray:
    """Return each mood's log probability given the features; missing ones have no effect. -> (n, moods)."""
    tracks = synthetic.generate(FITTED_TO, seed)
    tracks = tracks[tracks["mood"].isin(moods)]
    bayes = GaussianNB().fit(_scaled(tracks), tracks["mood"])
    order = [list(bayes.classes_).index(mood) for mood in moods]
    mean, variance = bayes.theta_[order], bayes.var_[order]
    by_feature = -0.5 * (np.log(2 * np.pi * variance) + (_scaled(table)[:, None] - mean) ** 2 / variance)
    score = np.nansum(by_feature, axis=2) + np.log(bayes.class_prior_[order])
    return score - score.max(axis=1, keepdims=True)


def _scaled(table: pd.DataFrame) -> np.ndarray:
    """Scale the features to about normal: log-odds of shares, tempo in 30 BPM, loudness in 5 dB. -> (n, features)."""
    values = table[list(FEATURES)].to_numpy(dtype=float)
    share = np.clip(values[:, :-2], 0, 1)
    return np.hstack([np.log((share + 0.01) / (1.01 - share)), values[:, -2:] / (30, 5)])


def _by_encoder(texts: pd.Series, moods: list[str], model) -> np.ndarray:
    """Return the cosine of each text and each mood's vocabulary, minus the mood's mean over texts. -> (n, moods)."""
    prototypes = []
    for mood in (MOODS[name] for name in moods):
        mean = embed(model, [f"{word} music" for word in mood.words["train"]] + mood.sound).mean(axis=0)
        prototypes.append(mean / np.linalg.norm(mean))
    cosine = embed(model, texts, progress=len(texts) > 1000) @ np.stack(prototypes).T
    return cosine - cosine.mean(axis=0)
