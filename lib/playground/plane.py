"""The valence–arousal plane as a map: where songs and requests lie, drawn as SVG for the playground."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import softmax

from lib.core.style import BASE, TUNED
from lib.search.recommender import Recommender
from lib.tracks.moods import MOODS

SHARP = 0.08  # temperature of the softmax: less draws everything to its nearest mood, more to the middle
SIZE, EDGE = 440, 1.12  # of the square in pixels; the plane's border in the picture


class Pin(NamedTuple):
    """A thing on the map: a song with its place in the answer, or the request, where it is and where it was before."""

    name: str
    at: np.ndarray
    label: str = ""
    before: np.ndarray | None = None


def places(recommender: Recommender, vectors: np.ndarray) -> np.ndarray:
    """Where texts lie as their encoder takes them: between the moods, the nearer to each the more like its songs.

    A place is the mean of the moods' points on the plane, weighted by the softmax of the cosines to their songs' mean.

    Args:
        vectors: (n, d) unit vectors of songs or requests.

    Returns:
        (n, 2), valence and arousal from -1 to 1; NaN where the catalogue has no mood that is on the plane.
    """
    known = [i for i, mood in enumerate(recommender.moods) if mood in MOODS]
    if not known:
        return np.full((len(vectors), 2), np.nan)
    weights = softmax(vectors @ recommender.centres[known].T / SHARP, axis=1)
    return weights @ [(MOODS[recommender.moods[i]].valence, MOODS[recommender.moods[i]].arousal) for i in known]


def backdrop(where: np.ndarray) -> str:
    """All tracks as faint dots, as a PNG in a data URI: drawn once, it lies behind every answer."""
    figure = plt.figure(figsize=(SIZE / 100, SIZE / 100), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE))
    axes.axis("off")
    axes.scatter(*where.T, s=3, color=BASE, alpha=min(0.5, 400 / max(1, len(where)) ** 0.85), linewidths=0)
    out = io.BytesIO()
    figure.savefig(out, transparent=True)
    plt.close(figure)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def svg(answers: dict[str, list[Pin]], moods: list[str]) -> str:
    """The map of an answer: moods by name, the request as a diamond, its songs as numbered dots.

    Args:
        answers: tuned, and base where it is compared with, each with its request first and then its songs.
    """
    if all(np.isnan(pin.at).any() for pins in answers.values() for pin in pins):
        return (
            "<div>There is no map: none of this catalogue's moods is on the plane. rename_moods puts them there.</div>"
        )
    said = "; ".join(f"{name}: {', '.join(pin.name for pin in pins[1:])}" for name, pins in answers.items())
    parts = [_axes(), *(_mood(mood) for mood in moods if mood in MOODS)]
    for name, pins in answers.items():
        color = TUNED if name == "tuned" else BASE
        known = [pin for pin in pins if not np.isnan(pin.at).any()]
        parts += [_song(pin, color) for pin in reversed(known[1:])] + [_request(pin, name) for pin in known[:1]]
    legend = "◇ your request, ● its songs" + (": blue as tuned, grey as base" if len(answers) > 1 else "")
    return (
        f'<svg class="plane" viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label="Map of the request and its songs. '
        f'{escape(said)}">{"".join(parts)}</svg><div>{legend}</div>'
    )


def _xy(at: np.ndarray) -> tuple[float, float]:
    """A place in pixels, kept inside the picture."""
    x, y = np.clip(at, -1.05, 1.05)
    return round((x + EDGE) / (2 * EDGE) * SIZE, 1), round((EDGE - y) / (2 * EDGE) * SIZE, 1)


def _axes() -> str:
    middle = SIZE / 2
    lines = f'<path class="axis" d="M0 {middle}H{SIZE}M{middle} 0V{SIZE}"/>'
    ends = (
        (6, middle - 6, "start", "unpleasant"),
        (SIZE - 6, middle - 6, "end", "pleasant"),
        (middle + 6, 14, "start", "excited"),
        (middle + 6, SIZE - 6, "start", "quiet"),
    )
    return lines + "".join(f'<text class="end" x="{x}" y="{y}" text-anchor="{a}">{t}</text>' for x, y, a, t in ends)


def _mood(name: str) -> str:
    x, y = _xy(np.array((MOODS[name].valence, MOODS[name].arousal)))
    return f'<text class="mood" x="{x}" y="{y}" text-anchor="middle">{escape(name)}</text>'


def _song(pin: Pin, color: str) -> str:
    x, y = _xy(pin.at)
    return (
        f'<g><title>{escape(pin.label)}. {escape(pin.name)}</title><circle cx="{x}" cy="{y}" r="9" fill="{color}"/>'
        f'<text class="rank" x="{x}" y="{y + 4}" text-anchor="middle">{escape(pin.label)}</text></g>'
    )


def _request(pin: Pin, name: str) -> str:
    x, y = _xy(pin.at)
    moved = '<path class="moved" d="M{} {}L{} {}"/>'.format(*_xy(pin.before), x, y) if pin.before is not None else ""
    diamond = f'<path class="request {escape(name)}" d="M{x} {y - 13}l13 13l-13 13l-13 -13z"/>'
    return f"{moved}<g><title>your request, as the {escape(name)} encoder takes it</title>{diamond}</g>"
