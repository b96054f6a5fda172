"""The playground's parts: a row for each song, with reasons and buttons; a slider that has a name."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from anywidget import AnyWidget
from ipywidgets import HTML, Button, HBox, Layout, VBox
from traitlets import Float, Unicode

from lib.playground.plane import Pin

TEMPLATES = Path(__file__).parent
MOST = 10  # songs in an answer
SETTLE = 0.4  # seconds: the second click of a double click was meant for the song that was there before


def moves(before: list[str], now: list[str]) -> list[str]:
    """What became of each id of an answer since the one before: new, ▲ places up, ▼ places down, or nothing."""
    place = {track: rank for rank, track in enumerate(before)}
    steps = [place[track] - rank if track in place else None for rank, track in enumerate(now)]
    return ["new" if s is None else f"▲ {s}" if s > 0 else f"▼ {-s}" if s < 0 else "" for s in steps]


class Shown(NamedTuple):
    """An answer on screen: what was asked, tracks as the API gives them, how each moved, pins for the map, why."""

    text: str
    query: np.ndarray
    tracks: list[dict]
    moved: list[str]
    pins: list[Pin]
    why: list[dict | None]


class Slider(AnyWidget):
    """A browser's own slider: unlike that of ipywidgets it has a name for those who do not see it."""

    _esm = TEMPLATES / "slider.js"
    label = Unicode().tag(sync=True)
    value, min, max, step = (Float(x).tag(sync=True) for x in (0, 0, 1, 1))


class Answers(VBox):
    """The songs of one encoder: as many rows as an answer can have, filled and hidden in place to keep the focus."""

    def __init__(self, name: str, react: Callable[[str, dict], None]) -> None:
        self.tracks, self.rows, self.react, self.filled = [], [], react, 0.0
        for i in range(MOST):
            like = Button(description="Like", icon="thumbs-up", layout=Layout(width="5.5em"))
            dislike = Button(description="Dislike", icon="thumbs-down", layout=Layout(width="6.5em"))
            for button, kind in ((like, "liked"), (dislike, "disliked")):
                button.on_click(lambda _, kind=kind, i=i: self._clicked(kind, i))
            said = HTML(layout=Layout(flex="1 1 14em", width="auto"))
            self.rows.append(HBox([said, like, dislike], layout=Layout(flex_flow="row wrap")))
        super().__init__(
            [HTML(f"<b>{name} encoder</b>"), *self.rows], layout=Layout(flex="1 1 24em", padding="0 1em 0 0")
        )
        self.add_class(f"answers-{name}")

    def show(self, shown: Shown | None) -> None:
        """Fill the rows."""
        tracks = shown.tracks if shown else []
        if tracks != self.tracks:  # their reasons, which come later, move nothing
            self.tracks, self.filled = tracks, time.monotonic()
        for i, row in enumerate(self.rows):
            row.layout.display = "flex" if i < len(self.tracks) else "none"
            if i < len(self.tracks):
                said, like, dislike = row.children
                said.value = song(i + 1, self.tracks[i], shown.moved[i], shown.why[i])
                like.tooltip = f"More like {self.tracks[i]['title']}"
                dislike.tooltip = f"Less like {self.tracks[i]['title']}"

    def _clicked(self, kind: str, i: int) -> None:
        if time.monotonic() - self.filled > SETTLE:
            self.react(kind, self.tracks[i])


def song(rank: int, track: dict, moved: str, why: dict | None) -> str:
    """A row: rank, title, artist, mood, what moved it; a bar for the score, with its band; why, once it is known."""
    title, artist, mood, match = (escape(track[key]) for key in ("title", "artist", "mood", "match"))
    tag = f'<span class="tag">{mood}</span> ' if mood else ""
    return (
        f'<div class="song"><div><span class="rank">{rank}</span> <b>{title}</b>{artist and f" — {artist}"} '
        f'{tag}<span class="moved">{moved}</span></div>'
        f'<div class="score"><span class="track"><span class="bar {match}" style="width: {max(0, track["score"]):.0%}">'
        f"</span></span> {track['score']:.2f} {match}</div>"
        f'<div class="why">{reasons(why) if why else "&nbsp;"}</div></div>'
    )


def reasons(why: dict) -> str:
    """Why a song fits, in words: the words of its text with their shares of the score, and its nearest moods."""
    words = " · ".join(f"{escape(w['word'])} {w['share']:.0%}" for w in why["words"])
    moods = ", ".join(f"{escape(m['mood'])} {m['similarity']:.2f}" for m in why["moods"])
    return "; ".join(filter(None, (words and f"because of {words}", moods and f"nearest moods {moods}")))
