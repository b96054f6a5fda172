"""The playground: type a mood, get songs, like some, see the answer move. ipywidgets over the API's contract."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from anywidget import AnyWidget
from IPython import get_ipython
from ipywidgets import HTML, Box, Button, Checkbox, Dropdown, HBox, Layout, Output, Text, VBox
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits
from traitlets import Float, Unicode

from lib import api, plane, plots_space
from lib.encoder import find, load
from lib.recommender import DIVERSITY, Recommender, build_index, open_run
from lib.runs import WorkbookError, point

EXAMPLES = (
    "Jazzy lo-fi beats for studying",
    "Uplifting EDM track with hype vocals and a build-up structure",
    "A rainy Sunday with slow piano",
    "Heartbroken at two in the morning",
    "Windows down, summer road trip",
    "Something epic to win a battle to",
)
NEUTRAL = "music"  # the text where there are only likes: "more like these"
URL = "http://localhost:8080/recommend"
WIDE = Layout(width="auto")
TEMPLATES = Path(__file__).parent / "templates"
STYLE = (TEMPLATES / "playground.css").read_text(encoding="utf-8")


def live() -> bool:
    """Whether somebody can click: in JupyterLab, VS Code or Voilà, say; not under papermill, nbconvert or nbval."""
    kernel = getattr(get_ipython(), "kernel", None)
    asks = getattr(kernel, "_allow_stdin", False)  # front ends with a person at them let a cell ask for input
    return asks or any(name.startswith("VOILA_") for name in os.environ)


def ask(recommender: Recommender, body: dict) -> dict:
    """What POST /recommend answers to a body: tracks and model, or an error."""
    recommender.encode([body["text"].strip()])  # once: the map wants the same vector
    return json.loads(api.recommend(recommender, json.dumps({"body": body})).body)


def untuned(folder: Path, base_model: str, tracks: pd.DataFrame) -> Recommender:
    """The base encoder on the same tracks, which it embeds the first time; that is kept in `folder`."""
    model = find(base_model)
    folder.mkdir(exist_ok=True)
    point(folder / "model", model)
    try:
        kept = open_run(folder)
        if kept.tracks[["id", "mood", "text"]].equals(tracks[["id", "mood", "text"]]):
            return kept
    except WorkbookError:
        pass  # there is none, or it is another encoder's
    build_index(folder, load(model), tracks, progress=True)
    return open_run(folder)


def curl(body: dict) -> str:
    """The command that asks the service the same."""
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f'curl -X POST {URL} \\\n     -H "Content-Type: application/json" \\\n     -d {data}'


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
    pins: list[plane.Pin]
    why: list[dict | None]


class Slider(AnyWidget):
    """A browser's own slider: unlike that of ipywidgets it has a name for those who do not see it."""

    _esm = TEMPLATES / "slider.js"
    label = Unicode().tag(sync=True)
    value, min, max, step = (Float(x).tag(sync=True) for x in (0, 0, 1, 1))


class Answers(VBox):
    """The songs of one encoder: as many rows as an answer can have, filled and hidden in place to keep the focus."""

    def __init__(self, name: str, react: Callable[[str, dict], None]) -> None:
        self.tracks, self.rows = [], []
        for i in range(10):
            like = Button(description="Like", icon="thumbs-up", layout=Layout(width="5.5em"))
            dislike = Button(description="Dislike", icon="thumbs-down", layout=Layout(width="6.5em"))
            for button, kind in ((like, "liked"), (dislike, "disliked")):
                button.on_click(lambda _, kind=kind, i=i: react(kind, self.tracks[i]))
            self.rows.append(HBox([HTML(layout=Layout(flex="1 1 auto", width="0")), like, dislike]))
        super().__init__(
            [HTML(f"<b>{name} encoder</b>"), *self.rows], layout=Layout(flex="1 1 24em", padding="0 1em 0 0")
        )
        self.add_class(f"answers-{name}")

    def show(self, shown: Shown | None) -> None:
        """Fill the rows."""
        self.tracks = shown.tracks if shown else []
        for i, row in enumerate(self.rows):
            row.layout.display = "flex" if i < len(self.tracks) else "none"
            if i < len(self.tracks):
                said, like, dislike = row.children
                said.value = song(i + 1, self.tracks[i], shown.moved[i], shown.why[i])
                like.tooltip = f"More like {self.tracks[i]['title']}"
                dislike.tooltip = f"Less like {self.tracks[i]['title']}"


def song(rank: int, track: dict, moved: str, why: dict | None) -> str:
    """A row: rank, title, artist, mood, what moved it; a bar for the score, with its band; why, once it is known."""
    title, artist, mood, match = (escape(track[key]) for key in ("title", "artist", "mood", "match"))
    return (
        f'<div class="song"><div><span class="rank">{rank}</span> <b>{title}</b>{artist and f" — {artist}"} '
        f'<span class="tag">{mood}</span> <span class="moved">{moved}</span></div>'
        f'<div class="score"><span class="track"><span class="bar {match}" style="width: {max(0, track["score"]):.0%}">'
        f"</span></span> {track['score']:.2f} {match}</div>"
        f'<div class="why">{reasons(why) if why else "&nbsp;"}</div></div>'
    )


def reasons(why: dict) -> str:
    """Why a song fits, in words: the words of its text with their shares of the score, and its nearest moods."""
    words = " · ".join(f"{escape(w['word'])} {w['share']:.0%}" for w in why["words"])
    moods = ", ".join(f"{escape(m['mood'])} {m['similarity']:.2f}" for m in why["moods"])
    return "; ".join(filter(None, (words and f"because of {words}", moods and f"nearest moods {moods}")))


class Playground(VBox):
    """A page to play with.

    Args:
        tuned: the run's recommender.
        base: gives the untuned encoder's recommender, when it is wanted.
        text: what is asked first.
    """

    def __init__(self, tuned: Recommender, base: Callable[[], Recommender], text: str) -> None:
        self.songs, self.base = {"tuned": tuned}, base
        self.given: dict[str, dict[str, str]] = {"liked": {}, "disliked": {}}  # id -> title
        self.shown: dict[str, Shown] = {}
        self.text = Text(text, description="I feel like", continuous_update=False, layout=Layout(flex="1 1 20em"))
        self.find = Button(description="Find songs", icon="search", button_style="primary")
        self.top_k = Slider(label="How many", value=5, min=1, max=10)
        self.diversity = Slider(label="Variety", value=DIVERSITY, max=1, step=0.05)
        self.mood = Dropdown(options=[("any", None), *((m, m) for m in tuned.moods)], description="Mood")
        self.compare = Checkbox(False, description="beside the base encoder", indent=False, layout=WIDE)
        self.taste = Box(layout=Layout(flex_flow="row wrap", align_items="center"))
        self.said, self.picture, self.command, self.work = HTML(), HTML(), HTML(), Output()
        self.answers = {name: Answers(name, self._react) for name in ("tuned", "base")}
        examples = [Button(description=example, layout=WIDE) for example in EXAMPLES]
        for button in examples:
            button.on_click(lambda pressed: self._type(pressed.description))
        self.find.on_click(self._ask)
        for control in (self.text, self.top_k, self.diversity, self.mood, self.compare):
            control.observe(self._ask, "value")
        wrap, dots = (
            Layout(flex_flow="row wrap", align_items="center"),
            plane.backdrop(plane.places(tuned, tuned.vectors)),
        )
        super().__init__(
            [
                HTML(f"<style>{STYLE}\n.plane {{ background-image: url({dots}) }}</style>"),
                Box([self.text, self.find], layout=wrap),
                Box([HTML("Try:&nbsp;"), *examples], layout=wrap),
                Box([self.top_k, self.diversity, self.mood, self.compare], layout=wrap),
                self.taste,
                self.said,
                self.work,
                Box([*self.answers.values(), self.picture], layout=Layout(flex_flow="row wrap")),
                self.command,
            ]
        )
        self.add_class("playground")
        self._ask()

    def body(self) -> dict:
        """What is on screen as a request to the service."""
        text = self.text.value
        if not text.strip() and self.given["liked"]:
            text = NEUTRAL
        body = {"text": text, "top_k": int(self.top_k.value), "diversity": self.diversity.value}
        if self.mood.value:
            body["mood"] = self.mood.value
        return body | {kind: list(given) for kind, given in self.given.items() if given}

    def _type(self, text: str) -> None:
        if self.text.value == text:
            self._ask()
        self.text.value = text  # which asks

    def _react(self, kind: str, track: dict) -> None:
        for given in self.given.values():
            given.pop(track["id"], None)
        self.given[kind][track["id"]] = track["title"]
        self._ask()

    def _take_back(self, kind: str, track: str) -> None:
        self.given[kind].pop(track)
        self._ask()
        self.text.focus()  # the button that had the focus is gone

    def _ask(self, _=None) -> None:
        """Ask the encoders that are wanted; show the songs, and then why, which takes longer."""
        body, asked, started = self.body(), self._asked(), time.perf_counter()
        found = {name: ask(songs, body) for name, songs in asked.items()}
        seconds = time.perf_counter() - started
        if error := found["tuned"].get("error"):
            self.said.value = f'<div class="error" role="alert">{escape(error["message"])}</div>'
            return
        self.shown = {name: self._shown(name, answer["tracks"], body) for name, answer in found.items()}
        for name, answers in self.answers.items():
            answers.layout.display = "flex" if name in self.shown else "none"
            answers.show(self.shown.get(name))
        self._show_taste()
        self.said.value = f'<div role="status">{sentence(self.shown["tuned"], body["top_k"], seconds)}</div>'
        pins = {name: shown.pins for name, shown in self.shown.items()}
        self.picture.value = plane.svg(pins, self.songs["tuned"].moods)
        self.command.value = copyable(curl(body | {"explain": True}))
        for name, shown in self.shown.items():
            why = self.songs[name].explain(shown.query, [t["id"] for t in shown.tracks]) if shown.tracks else []
            self.answers[name].show(shown._replace(why=why))

    def _asked(self) -> dict[str, Recommender]:
        """The encoders to ask; the base is made ready when it is wanted first."""
        if not self.compare.value:
            return {"tuned": self.songs["tuned"]}
        if "base" not in self.songs:
            with self.work:  # where its progress is seen
                self.songs["base"] = self.base()
            self.work.clear_output()
        return self.songs

    def _shown(self, name: str, tracks: list[dict], body: dict) -> Shown:
        """An answer, and how it moved where the text is that of the answer before."""
        songs, ids, text = self.songs[name], [track["id"] for track in tracks], body["text"]
        query = songs.query(text.strip(), body.get("liked", ()), body.get("disliked", ()))
        at, *places = plane.places(songs, np.vstack([query, songs.vectors[[songs.row[i] for i in ids]]]))
        before, moved, last = None, [""] * len(ids), self.shown.get(name)
        if last and last.text == text:
            before, moved = last.pins[0].at, moves([track["id"] for track in last.tracks], ids)
        pins = [plane.Pin("your request", at, before=before)]
        pins += [plane.Pin(t["title"], at, str(i)) for i, (t, at) in enumerate(zip(tracks, places, strict=True), 1)]
        return Shown(text, query, tracks, moved, pins, [None] * len(ids))

    def _show_taste(self) -> None:
        """A button for each song that was liked or disliked: it takes that back."""
        chips = []
        for kind, given in self.given.items():
            for track, title in given.items():
                chip = Button(description=f"{kind}: {title}", icon="times", tooltip="take this back", layout=WIDE)
                chip.on_click(lambda _, kind=kind, track=track: self._take_back(kind, track))
                chips.append(chip)
        self.taste.children = chips


def sentence(shown: Shown, wanted: int, seconds: float) -> str:
    """What happened, in words."""
    n, new = len(shown.tracks), shown.moved.count("new")
    said = f"{n} song{'s' * (n != 1)} in {1000 * seconds:.0f} ms."
    if n < wanted:
        said += " There are no more that fit the mood."
    if any(shown.moved):
        said += f" The answer moved: {new} of {n} {'is' if new == 1 else 'are'} new."
    return said


def copyable(command: str) -> str:
    """A command with a button that copies it."""
    return (
        '<label class="curl">The same over HTTP (make serve): '
        f'<textarea readonly rows="3" onfocus="this.select()">{escape(command)}</textarea></label>'
        '<button class="jupyter-button" onclick="navigator.clipboard.writeText(this.parentNode'
        ".querySelector('textarea').value); this.textContent = 'Copied'\">Copy</button>"
    )


def page(run: Path, base_model: str, text: str) -> Playground | Figure:
    """The playground where somebody can click, and a picture of one answer where nobody can."""
    songs = open_run(run)
    if live():
        threadpool_limits(1, "blas")  # numpy's threads and PyTorch's would spin against each other
        return Playground(songs, lambda: untuned(run / "base", base_model, songs.tracks), text)
    query = songs.query(text)
    found = songs.search(query)
    rows = [songs.row[track] for track in found["id"]]
    places = [plane.places(songs, vectors) for vectors in (songs.vectors, songs.vectors[rows], query[None])]
    return plots_space.answer(text, found, *places)
