"""The valence–arousal plane as SVG."""

from base64 import b64encode
from html import escape
from xml.etree import ElementTree

import numpy as np
from IPython.display import HTML

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
    taken = [place for answer in answers.values() for place in pixels(answer.places)]
    taken += [[x, SIZE / 2 - 10] for x in (6, 70, SIZE - 56, SIZE - 6)]  # the axis's words
    labels = {}
    for mood, place in known.items():
        half = 3.5 * len(mood)  # pixels
        x, y = labels[mood] = _free(pixels(place)[0], half + 12, taken)
        taken += [[x - half, y - 4], [x, y - 4], [x + half, y - 4]]
    values = {"size": SIZE, "pixels": pixels, "colors": {"tuned": TUNED, "base": BASE}}
    return render("playground/plane.svg", moods=labels, dots=dots, answers=answers, **values)


def still(svg: str) -> HTML:
    """Return the plane as an image. JupyterLab shows no SVG in a notebook that nobody has run on this machine."""
    image, words = b64encode(svg.encode()).decode(), ElementTree.fromstring(svg).get("aria-label")
    return HTML(f'<img src="data:image/svg+xml;base64,{image}" alt="{escape(words)}">')


def _free(place: list[float], reach: float, taken: list[list[float]]) -> list[float]:
    """Return the place nearest to a label's own, up or down, at which no point of `taken` is on the label.

    `reach` is the distance of the label's middle to a point that just touches its end.
    """
    x, y = place
    near = [ty for tx, ty in taken if abs(tx - x) < reach]
    shifts = (shift for step in range(16) for shift in (8 * step, -8 * step))
    return next(([x, y + s] for s in shifts if all(abs(ty - y - s + 4) > 17 for ty in near)), place)


def pixels(points: np.ndarray) -> list[list[float]]:
    """Convert places to pixels inside the picture. (n, 2) -> n pairs x, y."""
    points = np.clip(points, -1.05, 1.05) * (1, -1)
    return ((points + EDGE) / (2 * EDGE) * SIZE).round(1).tolist()
