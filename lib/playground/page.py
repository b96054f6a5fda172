"""The playground: type a mood, get songs, like some, see the answer move. ipywidgets over the API's contract."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
from IPython import get_ipython
from ipywidgets import HTML, Box, Button, Checkbox, Dropdown, Layout, Output, Text, VBox
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits
from voila.app import Voila

from lib.core.base_models import find
from lib.core.errors import WorkbookError
from lib.core.files import point, read_json
from lib.core.paths import NOTEBOOKS, ROOT
from lib.core.runs import need
from lib.playground import pictures as playground_pictures
from lib.playground import plane
from lib.playground.widgets import MOST, TEMPLATES, Answers, Shown, Slider, moves
from lib.search.indexing import build_index
from lib.search.recommender import DIVERSITY, Recommender, open_run
from lib.serve import contract

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
NOTEBOOK = NOTEBOOKS / "06_playground.ipynb"
# Cells that explain files and code are left out of the page; a kernel that no page is connected to any more is ended.
VOILA = (
    "--TagRemovePreprocessor.remove_cell_tags=not-in-voila",
    "--MappingKernelManager.cull_idle_timeout=10",
    "--MappingKernelManager.cull_interval=2",
)
STYLE = (TEMPLATES / "playground.css").read_text(encoding="utf-8")


def live() -> bool:
    """Whether somebody can click: in JupyterLab, VS Code or Voilà, say; not under papermill, nbconvert or nbval."""
    kernel = getattr(get_ipython(), "kernel", None)
    asks = getattr(kernel, "_allow_stdin", False)  # front ends with a person at them let a cell ask for input
    return asks or any(name.startswith("VOILA_") for name in os.environ)


def ask(recommender: Recommender, body: dict) -> dict:
    """What POST /recommend answers to a body: tracks and model, or an error."""
    return json.loads(contract.recommend(recommender, json.dumps({"body": body})).body)


def base_of(run: Path) -> str:
    """The encoder that a run was tuned from; the quick one where the run does not say."""
    said = run / "run.json"
    return read_json(said)["parameters"]["base_model"] if said.exists() else "all-MiniLM-L6-v2"


def untuned(folder: Path, base_model: str, tracks: pd.DataFrame) -> Recommender:
    """The base encoder on the same tracks, which it embeds the first time; that is kept in `folder`."""
    model = find(base_model)
    if not (folder / "model").exists() or not (folder / "model").samefile(model):  # in an image it may not be written
        folder.mkdir(exist_ok=True)
        point(folder / "model", model)
    try:
        kept = open_run(folder)
        if kept.tracks.equals(tracks):
            return kept
    except WorkbookError:
        pass  # there is none, or it is another encoder's
    build_index(folder, tracks, progress=True)
    return open_run(folder)


def curl(body: dict) -> str:
    """The command that asks the service the same."""
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f'curl -X POST {URL} \\\n     -H "Content-Type: application/json" \\\n     -d {data}'


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
        self.top_k = Slider(label="How many", value=5, min=1, max=MOST)
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
        for control in (self.text, self.top_k, self.diversity, self.mood):
            control.observe(self._ask, "value")
        self.compare.observe(self._beside, "value")
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
        self.given[kind].pop(track, None)
        self._ask()
        self.text.focus()  # the button that had the focus is gone

    def _beside(self, change) -> None:
        """The base encoder is wanted, or not any more; it is made ready the first time."""
        trouble = ""
        if change.new and "base" not in self.songs:
            with self.work:  # where its progress is seen
                try:
                    self.songs["base"] = self.base()
                except (WorkbookError, OSError) as error:
                    trouble = f"There is no base encoder to compare with: {error}"
            self.work.clear_output()
        if trouble:
            self.compare.value = False
            self.said.value = alert(trouble)
        else:
            self._ask()

    def _ask(self, _=None) -> None:
        """Ask the encoders that are wanted; show the songs, and then why, which takes longer."""
        body, started = self.body(), time.perf_counter()
        asked = {name: songs for name, songs in self.songs.items() if name == "tuned" or self.compare.value}
        found = {name: ask(songs, body) for name, songs in asked.items()}
        seconds = time.perf_counter() - started
        error = found["tuned"].get("error")
        self.shown = (
            {} if error else {name: self._shown(name, answer["tracks"], body) for name, answer in found.items()}
        )
        for name, answers in self.answers.items():
            answers.layout.display = "flex" if name in self.shown else "none"
            answers.show(self.shown.get(name))
        self._show_taste()
        if error:
            self.said.value, self.picture.value, self.command.value = alert(error["message"]), "", ""
            return
        self.said.value = f'<div role="status">{sentence(self.shown["tuned"], body["top_k"], seconds)}</div>'
        pins = {name: shown.pins for name, shown in self.shown.items()}
        self.picture.value = plane.svg(pins, self.songs["tuned"].moods)
        self.command.value = copyable(curl(body | {"explain": True}))
        for name, shown in self.shown.items():
            why = self.songs[name].explain(shown.query, [t["id"] for t in shown.tracks]) if shown.tracks else []
            self.answers[name].show(shown._replace(why=why))

    def _shown(self, name: str, tracks: list[dict], body: dict) -> Shown:
        """An answer, and how it moved where the text is that of the answer before."""
        songs, ids, text = self.songs[name], [track["id"] for track in tracks], body["text"]
        query = songs.query(text.strip(), body.get("liked", ()), body.get("disliked", ()))
        at, *places = plane.places(songs, np.vstack([query, songs.vectors[songs.rows(ids)]]))
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


def alert(message: str) -> str:
    """What is wrong, told at once to those who listen to the page."""
    return f'<div class="error" role="alert">{escape(message)}</div>'


def sentence(shown: Shown, wanted: int, seconds: float) -> str:
    """What happened, in words."""
    n, new = len(shown.tracks), shown.moved.count("new")
    said = f"{n} song{'s' * (n != 1)} in {1000 * seconds:.0f} ms."
    if n < wanted:
        said += " There are no more."
    if any(shown.moved):
        said += f" The answer moved: {new} of {n} {'is' if new == 1 else 'are'} new."
    return said


def copyable(command: str) -> str:
    """A command with a button that copies it."""
    return (
        '<label class="curl">The same over HTTP (make serve): '
        f'<textarea readonly rows="3" onfocus="this.select()">{escape(command)}</textarea></label>'
        '<button class="jupyter-button" onclick="this.previousElementSibling.firstElementChild.select(); '
        "document.execCommand('copy'); this.textContent = 'Copied'\">Copy</button>"
    )


def page(run: Path, base_model: str, text: str) -> Playground | HTML | Figure:
    """The playground where somebody can click, what is wrong with the run, or a picture of one answer for nobody."""
    if not live():
        return picture(open_run(run), text)
    threadpool_limits(1, "blas")  # numpy's threads and PyTorch's would spin against each other
    try:
        songs = open_run(run)
    except WorkbookError as error:
        return HTML(alert(str(error)))
    return Playground(songs, lambda: untuned(run / "base", base_model or base_of(run), songs.tracks), text)


def picture(songs: Recommender, text: str) -> Figure:
    """One answer: its songs, and where they lie."""
    query = songs.query(text)
    found = pd.DataFrame(songs.search(query))
    rows = songs.rows(found["id"])
    places = [plane.places(songs, vectors) for vectors in (songs.vectors, songs.vectors[rows], query[None])]
    return playground_pictures.answer(text, found, *places)


def main(argv: list[str] | None = None) -> int:
    """Open notebook 06 as a page in Voilà until Ctrl-C; 1 with one line where the run is not there."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.playground.page",
        description=main.__doc__,
        epilog="Other options go to Voilà: --port 8900, say.",
    )
    parser.add_argument("run", nargs="?", default="outputs/current", help="the run to play with (default: %(default)s)")
    args, options = parser.parse_known_args(argv)
    run = ROOT / Path(args.run).expanduser()  # not resolved: a page that is opened later shows what is promoted then
    try:
        need(run, "model", "index")
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        notebook = f"{folder}/playground.ipynb"
        papermill.execute_notebook(str(NOTEBOOK), notebook, {"run_dir": str(run)}, prepare_only=True)
        Voila.launch_instance([*VOILA, *options, notebook])
    return 0


if __name__ == "__main__":
    sys.exit(main())
