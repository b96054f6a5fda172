"""The playground page: type a mood, get songs, like some, see the ranking change."""

import json
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import ipywidgets as ui
import pandas as pd
import yaml
from IPython import get_ipython
from IPython.display import SVG, display
from threadpoolctl import threadpool_limits

from lib.core.base_models import find
from lib.core.errors import WorkbookError
from lib.core.files import point, read_json
from lib.core.pages import render
from lib.playground.answers import Answer, Refusal, ask, backdrop
from lib.playground.pictures import plane
from lib.search.indexing import build_index
from lib.search.recommender import DIVERSITY, Recommender, open_run
from lib.serve.contract import DEFAULT_TOP_K

EXAMPLES = yaml.safe_load(Path(__file__).with_name("examples.yaml").read_text(encoding="utf-8"))
STYLE = Path(__file__).with_name("playground.css").read_text(encoding="utf-8")
NEUTRAL = "music"  # the text of a request that has only likes
VARIETY = "0: the nearest songs; 1: songs as different as possible"
MOST = 10  # songs in an answer
SETTLE = 0.4  # seconds: the second click of a double click must not like the song that has just taken the place


class SongList(ui.VBox):
    """One encoder's songs, with buttons to like and dislike each.

    The rows stay and only their content changes, so the keyboard focus stays, too.

    Args:
        rate: is called with "liked" or "disliked", and the track.
    """

    def __init__(self, name: str, rate: Callable[[str, dict], None]) -> None:
        self.tracks, self.rate, self.changed = [], rate, 0.0
        self.rows = [self._row(i) for i in range(MOST)]
        super().__init__([ui.HTML(f"<b>{name} encoder</b>"), *self.rows])
        self.add_class(f"answers-{name}")

    def _row(self, i: int) -> ui.HBox:
        like = ui.Button(description="Like", icon="thumbs-up")
        dislike = ui.Button(description="Dislike", icon="thumbs-down")
        like.on_click(lambda _: self._click("liked", i))
        dislike.on_click(lambda _: self._click("disliked", i))
        return ui.HBox([ui.HTML(), ui.Box([like, dislike])])

    def _click(self, kind: str, i: int) -> None:
        if time.monotonic() - self.changed > SETTLE:
            self.rate(kind, self.tracks[i])

    def show(self, answer: Answer | None, reasons: list[dict] | None = None) -> None:
        """Fill the rows with an answer, and with its reasons once they are available; hide the list without one."""
        self.layout.display = "flex" if answer else "none"
        tracks = answer.tracks if answer else []
        for i, row in enumerate(self.rows):
            row.layout.display = "flex" if i < len(tracks) else "none"
        for i, track in enumerate(tracks):
            text, buttons = self.rows[i].children
            why = reasons and reasons[i]
            text.value = render("playground/song.html", rank=i + 1, track=track, move=answer.moves[i], why=why)
            for button, word in zip(buttons.children, ("More", "Less"), strict=True):
                button.tooltip = f"{word} like {track['title']}"
        self.tracks, self.changed = tracks, time.monotonic()  # at the end: the kernel handles the second click next


class Playground(ui.VBox):
    """The page.

    Args:
        tuned: the run's recommender.
        load_base: returns the base encoder's recommender; is called when the user first compares.
        text: the text of the first request.
    """

    def __init__(self, tuned: Recommender, load_base: Callable[[], Recommender], text: str) -> None:
        self.recommenders, self.load_base, self.dots = {"tuned": tuned}, load_base, backdrop(tuned)
        self.ratings: dict[str, tuple[str, str]] = {}  # track id -> "liked" or "disliked", title
        self.answers: dict[str, Answer] = {}
        self.text = ui.Text(text, description="I feel like", continuous_update=False)
        self.find = ui.Button(description="Find songs", icon="search", button_style="primary")
        # Number fields, because ipywidgets' sliders have no name for screen readers.
        self.top_k = ui.BoundedIntText(DEFAULT_TOP_K, min=1, max=MOST, description="How many")
        self.diversity = ui.BoundedFloatText(DIVERSITY, max=1, step=0.05, description="Variety", tooltip=VARIETY)
        # "any" has the value "", because ipywidgets may select no option if a value is None.
        self.mood = ui.Dropdown(options=[("any", ""), *((m, m) for m in tuned.moods)], description="Mood")
        self.compare = ui.Checkbox(description="beside the base encoder", indent=False)
        self.examples = [ui.Button(description=example) for example in EXAMPLES]
        self.chips, self.progress = ui.HBox(), ui.Output()
        self.message, self.map, self.command = ui.HTML(), ui.HTML(), ui.HTML()
        self.lists = {name: SongList(name, self._rate) for name in ("tuned", "base")}
        parts = (
            ui.HTML(f"<style>{STYLE}</style>"),
            ui.HBox([self.text, self.find]),
            ui.HBox([ui.HTML("Try:&nbsp;"), *self.examples]),
            ui.HBox([self.top_k, self.diversity, self.mood, self.compare]),
            *(self.chips, self.message, self.progress),
            ui.HBox([*self.lists.values(), self.map]),
            self.command,
        )
        super().__init__(parts)
        self.add_class("playground")
        self._connect()
        self._update()

    def _connect(self) -> None:
        """Update the page when a control changes."""
        self.find.on_click(self._update)
        for example in self.examples:
            example.on_click(lambda pressed: self.text.set_trait("value", pressed.description))
        for control in (self.text, self.top_k, self.diversity, self.mood):
            control.observe(self._update, "value")
        self.compare.observe(self._toggle_base, "value")

    def body(self) -> dict:
        """Return the controls' values as the body of POST /recommend."""
        rated = {kind: [i for i, (k, _) in self.ratings.items() if k == kind] for kind in ("liked", "disliked")}
        text = self.text.value if self.text.value.strip() or not rated["liked"] else NEUTRAL
        values = {"text": text, "top_k": self.top_k.value, "diversity": self.diversity.value, "mood": self.mood.value}
        return {name: value for name, value in (values | rated).items() if name == "text" or value not in ("", [])}

    def _rate(self, kind: str, track: dict) -> None:
        self.ratings[track["id"]] = (kind, track["title"])
        self._update()

    def _take_back(self, track_id: str) -> None:
        self.ratings.pop(track_id, None)
        self._update()
        self.text.focus()  # the button that had the focus is gone

    def _toggle_base(self, change) -> None:
        """Show or hide the base encoder's songs; the first time, load the base encoder."""
        error = None
        if change.new and "base" not in self.recommenders:
            with self.progress:  # an Output widget swallows errors, so they are caught inside
                try:
                    self.recommenders["base"] = self.load_base()
                except (WorkbookError, OSError) as caught:
                    error = f"There is no base encoder to compare with: {caught}"
            self.progress.clear_output()
        if error:
            self.compare.value = False
            self.message.value = render("playground/message.html", error=error)
        else:
            self._update()

    def _update(self, _=None) -> None:
        """Answer the request on the page; add the reasons last, because they take longer."""
        body, started = self.body(), time.perf_counter()
        names = [name for name in self.recommenders if name == "tuned" or self.compare.value]
        try:
            self.answers = {name: ask(self.recommenders[name], body, self.answers.get(name)) for name in names}
            ms = round(1000 * (time.perf_counter() - started))
            message = {"moves": self.answers["tuned"].moves, "top_k": body["top_k"], "ms": ms}
        except Refusal as error:
            self.answers, message = {}, {"error": error}
        for name, songs in self.lists.items():
            songs.show(self.answers.get(name))
        self.chips.children = [self._chip(i, kind, title) for i, (kind, title) in self.ratings.items()]
        self.message.value = render("playground/message.html", **message)
        self.map.value = plane(self.answers, self.recommenders["tuned"].moods, self.dots) if self.answers else ""
        data = shlex.quote(json.dumps(body | {"explain": True}, ensure_ascii=False))
        self.command.value = render("playground/curl.html", data=data) if self.answers else ""
        for name, answer in self.answers.items():
            if ids := [track["id"] for track in answer.tracks]:
                self.lists[name].show(answer, self.recommenders[name].explain(answer.query, ids))

    def _chip(self, track_id: str, kind: str, title: str) -> ui.Button:
        """Return a button that names a liked or disliked song and takes the like or dislike back."""
        chip = ui.Button(description=f"{kind}: {title}", icon="times", tooltip="take this back")
        chip.on_click(lambda _: self._take_back(track_id))
        return chip


def live() -> bool:
    """Return True if a user can click: in JupyterLab, VS Code or Voilà, not under papermill, nbconvert or nbval."""
    kernel = getattr(get_ipython(), "kernel", None)
    interactive = getattr(kernel, "_allow_stdin", False)  # front ends with a user let a cell ask for input
    return interactive or any(name.startswith("VOILA_") for name in os.environ)


def page(run: Path, base_model: str, text: str) -> Playground | ui.HTML | SVG:
    """Return the page. If no user can click, show the songs for `text` as a table and return their map.

    Args:
        base_model: the encoder to compare with, as for `untuned`.
    """
    if not live():
        return picture(open_run(run), text)
    threadpool_limits(1, "blas")  # numpy's threads would slow PyTorch's down
    try:
        tuned = open_run(run)
    except WorkbookError as error:
        return ui.HTML(render("playground/message.html", error=error))
    return Playground(tuned, lambda: untuned(run, base_model, tuned.tracks), text)


def untuned(run: Path, base_model: str, tracks: pd.DataFrame) -> Recommender:
    """Return a recommender with the base encoder. Embed the tracks only if the folder base/ has no index of them yet.

    Args:
        base_model: the encoder; "" for the encoder that the run was tuned from, or for MiniLM without a run.json.

    Raises:
        WorkbookError: the base encoder was not found, or the folder cannot be written.
    """
    folder, record = run / "base", run / "run.json"
    if not base_model:
        base_model = read_json(record)["parameters"]["base_model"] if record.exists() else "all-MiniLM-L6-v2"
    model = find(base_model)
    if not (folder / "model").exists() or not (folder / "model").samefile(model):  # a container's is read-only
        folder.mkdir(exist_ok=True)
        point(folder / "model", model)
    try:
        recommender = open_run(folder)
        if recommender.tracks.equals(tracks):
            return recommender
    except WorkbookError:
        pass  # the folder has no index yet, or another encoder's
    build_index(folder, tracks, progress=True)
    return open_run(folder)


def picture(recommender: Recommender, text: str) -> SVG:
    """Show the songs for a text as a table; return their map."""
    answer = ask(recommender, {"text": text})
    display(pd.DataFrame(answer.tracks, index=range(1, len(answer.tracks) + 1)).drop(columns="id"))
    return SVG(plane({"tuned": answer}, recommender.moods, backdrop(recommender)))
