"""The valence–arousal plane as SVG."""

import numpy as np

from lib.core.pages import render
from lib.core.style import BASE, TUNED
from lib.playground.answers import Answer
from lib.tracks.moods import MOODS

SIZE, EDGE = 440, 1.12  # width and height of the plane in pixels; valence or arousal at its border


def plane(answers: dict[str, Answer], moods: list[str], dots: np.ndarray) -> str:
    """Return the plane as SVG: moods by name, a diamond for each query, a numbered dot for each song.

    If none of the moods is on the plane, the picture is a sentence: what is missing, and what to do.

    Args:
        answers: by encoder: tuned, and base if it is compared.
        dots: (n, 2), places of tracks for the backdrop.
    """
    known = {mood: np.array([[MOODS[mood].valence, MOODS[mood].arousal]]) for mood in moods if mood in MOODS}
    values = {"size": SIZE, "pixels": pixels, "colors": {"tuned": TUNED, "base": BASE}}
    return render("playground/plane.svg", moods=known, dots=dots, answers=answers, **values)


def pixels(points: np.ndarray) -> list[list[float]]:
    """Convert places to pixels inside the picture. (n, 2) -> n pairs x, y."""
    points = np.clip(points, -1.05, 1.05) * (1, -1)
    return ((points + EDGE) / (2 * EDGE) * SIZE).round(1).tolist()
