"""Audio features of synthetic tracks in Spotify's units, drawn jointly around a point of the valence–arousal plane."""

import numpy as np
import pandas as pd

from lib.tracks.moods import GENRES, MOODS

# Correlations of the features' random parts within one mood and genre: the signs and rough sizes that analyses of
# Spotify's features report (energy with loudness, against acousticness; danceability with valence).
_NOISE = ("energy", "valence", "danceability", "acousticness", "loudness", "tempo", "liveness", "speechiness")
_CORRELATIONS = np.array(
    [
        [1.00, 0.15, 0.00, -0.55, 0.70, 0.20, 0.15, 0.00],
        [0.15, 1.00, 0.40, 0.00, 0.00, 0.00, 0.00, 0.00],
        [0.00, 0.40, 1.00, 0.00, 0.00, -0.15, 0.00, 0.15],
        [-0.55, 0.00, 0.00, 1.00, -0.40, 0.00, 0.00, 0.00],
        [0.70, 0.00, 0.00, -0.40, 1.00, 0.00, 0.00, 0.00],
        [0.20, 0.00, -0.15, 0.00, 0.00, 1.00, 0.00, 0.00],
        [0.15, 0.00, 0.00, 0.00, 0.00, 0.00, 1.00, 0.00],
        [0.00, 0.00, 0.15, 0.00, 0.00, 0.00, 0.00, 1.00],
    ]
)


def draw(rng: np.random.Generator, mood: np.ndarray, plane: np.ndarray, genre: np.ndarray) -> dict:
    """Draw the features of each track with a Gaussian copula and logistic margins. -> columns of (n,).

    Args:
        mood, genre: positions in MOODS and GENRES, (n,).
        plane: valence and arousal, (n, 2).
    """
    n = len(mood)
    valence, arousal = plane.T
    acoustic, danceable, vocal, minutes = (_of(genre, name) for name in ("acoustic", "danceable", "vocal", "minutes"))
    noise = rng.multivariate_normal(np.zeros(8), _CORRELATIONS, n, method="cholesky").T
    noise = dict(zip(_NOISE, noise, strict=True))
    loud = 0.25 + 1.7 * arousal + 1.6 * (0.45 - acoustic) + 0.55 * noise["energy"]
    energy = _logistic(loud)
    tempo = np.hstack([np.array([m.tempo for m in MOODS.values()])[mood], _of(genre, "tempo")]).mean(axis=1)
    sung = rng.random(n) < vocal
    minor = rng.random(n) < _logistic(-0.5 - 1.6 * valence)
    hip_hop, metal = ((_of(genre, "family") == family).astype(float) for family in ("hip hop", "metal"))
    return {
        "danceability": _logistic(-1.2 + 2.2 * danceable + 0.3 * valence + 0.5 * noise["danceability"]).round(3),
        "energy": energy.round(3),
        # As measured from sound: quiet and instrumental music scores low on valence, however peaceful it feels.
        "valence": _logistic(1.3 * valence + 0.5 * loud - 0.4 - 0.6 * ~sung + 0.8 * noise["valence"]).round(3),
        "acousticness": _logistic(-3.2 + 5.2 * acoustic - 1.2 * arousal + 1.3 * noise["acousticness"]).round(4),
        "instrumentalness": np.where(sung, 0.2 * rng.beta(0.25, 6, n), rng.beta(9, 1.8, n)).round(4),
        "liveness": _logistic(-1.9 + 0.75 * noise["liveness"]).round(3),
        "speechiness": _logistic(-3 + 0.7 * noise["speechiness"] + 1.3 * hip_hop).round(3),
        "tempo": np.clip(tempo + 11 * noise["tempo"], 40, 230).round(1),
        "loudness": np.clip(-22 + 17.5 * energy + 2.2 * noise["loudness"], -50, 0).round(2),
        "key": rng.integers(0, 12, n),
        "mode": (~minor).astype(int),
        "duration_ms": (60_000 * minutes * np.exp(0.22 * rng.standard_t(5, n))).clip(35_000, 3_600_000).astype(int),
        "explicit": rng.random(n) < 0.02 + 0.4 * hip_hop + 0.12 * metal,
    }


def draw_release(rng: np.random.Generator, artists: pd.DataFrame, artist: np.ndarray, genre: np.ndarray) -> dict:
    """Draw a release date within the artist's career, and a popularity (0 to 100) from fame, recency and chance."""
    n = len(artist)
    first, last = _of(genre, "years").T
    year = np.clip(artists["since"].to_numpy()[artist] + rng.exponential(6, n).astype(int), first, last)
    day = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]") + rng.integers(0, 365, n)
    appeal = 0.8 * np.log(artists["fame"].to_numpy()[artist]) + 0.02 * (year - 2000) + 1.1 * rng.normal(size=n)
    popularity = np.where(rng.random(n) < 0.08, 0, 100 * _logistic(appeal - 1.8))
    return {"popularity": popularity.astype(int), "release_date": np.datetime_as_string(day, unit="D").astype(object)}


def _of(genre: np.ndarray, field: str) -> np.ndarray:
    """Return a field of each track's genre. (n,) -> (n, ...)."""
    return np.array([getattr(g, field) for g in GENRES.values()])[genre]


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
