"""The playground page: say what you would like to hear, get songs, say more, see the ranking change."""

import json
import os
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import ipywidgets as ui
import pandas as pd
import yaml
from IPython import get_ipython
from IPython.display import HTML, display
from threadpoolctl import threadpool_limits

from lib.core.base_models import find
from lib.core.errors import WorkbookError
from lib.core.files import point, read_json
from lib.core.pages import render
from lib.core.processes import only_one
from lib.playground import tier
from lib.playground.answers import Refusal, ask, backdrop
from lib.playground.conversation import FOLLOWS, Conversation, conditions
from lib.playground.pictures import plane, still
from lib.playground.songs import MOST, SongList, button
from lib.search.indexing import build_index
from lib.search.recommender import DIVERSITY, Recommender, open_run
from lib.serve import contract

EXAMPLES = yaml.safe_load(Path(__file__).with_name("examples.yaml").read_text(encoding="utf-8"))
STYLE = Path(__file__).with_name("playground.css").read_text(encoding="utf-8")
VARIETY = "0: the nearest songs; 1: songs as different as possible"
SETTLE = 0.4  # seconds: the second click of a double click must not hit what has just taken the place


class Playground(ui.VBox):
    """The page.

    Args:
        tuned: the run's recommender.
        load_base: returns the base encoder's recommender; is called when the user first compares.
        text: the first request.
    """

    def __init__(self, tuned: Recommender, load_base: Callable[[], Recommender], text: str) -> None:
        self.recommenders, self.load_base, self.dots = {"tuned": tuned}, load_base, backdrop(tuned)
        self.talk, self.answers, self.changed, self.sample = Conversation([text]), {}, 0.0, True
        self.text = ui.Text(continuous_update=False, style={"description_width": "initial"})
        find = button("Find songs", self._say, icon="search", button_style="primary")
        # Number fields, because ipywidgets' sliders have no name for screen readers.
        self.top_k = ui.BoundedIntText(contract.DEFAULT_TOP_K, min=1, max=MOST, description="How many")
        self.diversity = ui.BoundedFloatText(DIVERSITY, max=1, step=0.05, description="Variety", tooltip=VARIETY)
        # "any" has the value "", because ipywidgets may select no option if a value is None.
        self.mood = ui.Dropdown(options=[("any", ""), *((m, m) for m in tuned.moods)], description="Mood")
        self.compare = ui.Checkbox(description="beside the base encoder", indent=False)
        self.session, self.hot = ui.Checkbox(description="a session of the tier", indent=False), ui.HTML()
        self.session.layout.display = "flex" if tier.ADDRESS else "none"
        examples = [self._button(example, partial(self._begin, example)) for example in EXAMPLES]
        self.anew = self._button("Start anew", self._begin, icon="undo")
        self.said, self.chips, self.progress = ui.HBox(), ui.HBox(), ui.Output()
        self.examples = ui.HBox([ui.HTML("Try:&nbsp;"), *examples]).add_class("examples")
        self.message, self.map, self.command = ui.HTML(), ui.HTML(), ui.HTML()
        self.lists = {name: SongList(name, self._rate) for name in ("tuned", "base")}
        parts = (
            ui.HTML(f"<style>{STYLE}</style>"),
            self.said,
            ui.HBox([self.text, find]),
            self.examples,
            ui.HBox([self.top_k, self.diversity, self.mood, self.compare, self.session]),
            *(self.chips, self.message, self.progress),
            ui.HBox([*self.lists.values(), self.map]),
            *(self.command, self.hot),
        )
        super().__init__(parts)
        self.add_class("playground")
        self.text.observe(self._say, "value")
        for control in (self.top_k, self.diversity, self.mood, self.session):
            control.observe(self._update, "value")
        self.compare.observe(self._toggle_base, "value")
        self._update()

    def body(self) -> dict:
        """Return the controls' values as the body of POST /recommend."""
        controls = {"top_k": self.top_k.value, "diversity": self.diversity.value}
        return self.talk.body() | controls | ({"mood": self.mood.value} if self.mood.value else {})

    def _say(self, _=None) -> None:
        """Move the text in the box to the conversation. A text that the contract refuses stays in the box."""
        text = self.text.value.strip()
        refused = text and contract.parse({"text": text})
        if isinstance(refused, contract.Answer):
            self.message.value = render("playground/message.html", error=refused.content.error.message)
        elif text:
            sample, self.sample = self.sample, False
            if sample and not (self.talk.ratings or self.talk.off or FOLLOWS.search(text)):
                self.talk = Conversation([])  # the sample gives way to the listener's own request
            self.talk.turns.append(text)
            self.talk.off.difference_update(conditions(self.recommenders["tuned"].read(text)))  # they were said again
            self.text.value = ""
            self._update()

    def _begin(self, *turns: str) -> None:
        self.sample = False
        self.talk, self.answers, self.mood.value = Conversation(list(turns)), {}, ""

    def _rate(self, kind: str, track: dict) -> None:
        self._change(partial(self._note, kind, track), moved=False)

    def _note(self, kind: str, track: dict) -> None:
        self.talk.ratings[track["id"]] = (kind, track["title"])
        if self.session.value:
            with suppress(Refusal):  # the next answer has the reason
                tier.tell(self.talk.session, kind, track)

    def _change(self, change: Callable[[], object], moved: bool = True) -> None:
        """Change the conversation by a click. `moved`: the button is gone then, so the box gets the focus."""
        if time.monotonic() - self.changed > SETTLE:
            change()
            self._update()
            if moved:
                self.text.focus()

    def _button(self, text: str, change: Callable[[], object], **traits) -> ui.Button:
        return button(text, partial(self._change, change), **traits)

    def _chip(self, text: str, change: Callable[[], object], on: bool = True) -> ui.Button:
        """Return a button that takes a part of the conversation back, or puts it back."""
        icon, tooltip, look = ("times", "take this back", "on") if on else ("plus", "put this back", "off")
        return self._button(text, change, icon=icon, tooltip=tooltip).add_class(look)

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
            off = frozenset(self.talk.off)
            tracks = {"tuned": tier.tracks(self.talk.session, body)} if self.session.value and body["text"] else {}
            self.answers = {n: ask(self.recommenders[n], body, self.answers.get(n), off, tracks.get(n)) for n in names}
            self.hot.value = tier.trending() if tier.ADDRESS else ""
            ms = round(1000 * (time.perf_counter() - started))
            tuned = self.answers["tuned"]
            message = {"moves": tuned.moves, "note": tuned.note, "top_k": body["top_k"], "ms": ms}
        except Refusal as error:
            self.answers, message = {}, {"error": error} if body["text"] else {}
        for name, songs in self.lists.items():
            songs.show(self.answers.get(name))
        self.message.value = render("playground/message.html", **message)
        self._show_conversation()
        self.map.value = plane(self.answers, self.recommenders["tuned"].moods, self.dots) if self.answers else ""
        self.command.value = self._curl(body) if self.answers and not self.session.value else ""
        for name, answer in self.answers.items():
            if ids := [track["id"] for track in answer.tracks]:
                self.lists[name].show(answer, self.recommenders[name].explain(answer.query, ids))
        self.changed = time.monotonic()  # the kernel handles the second click next

    def _curl(self, body: dict) -> str:
        data = shlex.quote(json.dumps(body | {"explain": True}, ensure_ascii=False))
        return render("playground/curl.html", data=data, off=self.talk.off & self.answers["tuned"].understood.keys())

    def _show_conversation(self) -> None:
        """Show the turns, and what was understood, liked and disliked, as chips."""
        turns, ratings, off = self.talk.turns, self.talk.ratings, self.talk.off
        self.text.description = "… and then?" if turns else "I feel like"
        said = [self._chip(turn, partial(turns.pop, i)) for i, turn in enumerate(turns)]
        self.said.children = said + [self.anew] * bool(turns or ratings)
        self.examples.layout.display = "none" if turns[1:] else "flex"
        understood = self.answers["tuned"].understood if self.answers else {}
        toggle = off.symmetric_difference_update
        chips = [self._chip(name, partial(toggle, {c}), c not in off) for c, name in understood.items()]
        chips += [self._chip(f"{kind}: {title}", partial(ratings.pop, i)) for i, (kind, title) in ratings.items()]
        self.chips.children = chips


def live() -> bool:
    """Return True if a user can click: in JupyterLab, VS Code or Voilà, not under papermill, nbconvert or nbval."""
    kernel = getattr(get_ipython(), "kernel", None)
    interactive = getattr(kernel, "_allow_stdin", False)  # front ends with a user let a cell ask for input
    return interactive or any(name.startswith("VOILA_") for name in os.environ)


def page(run: Path, base_model: str, text: str) -> Playground | ui.HTML | HTML:
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
    if not _indexed(folder, tracks):
        print("The base encoder embeds the songs. If another page does so already, this one waits.", flush=True)
        with only_one(folder, wait=True):  # the kernel of a page that was closed goes on for a while
            if not _indexed(folder, tracks):
                build_index(folder, _tagged(run, tracks).rename(columns={"year": "release_date"}), progress=True)
    return open_run(folder)


def _tagged(run: Path, tracks: pd.DataFrame) -> pd.DataFrame:
    """Return an index's tracks with their tags, whose words search reads, too."""
    if not (file := run / "tracks.parquet").exists():
        return tracks
    return tracks.assign(tags=tracks["id"].map(pd.read_parquet(file, columns=["id", "tags"]).set_index("id")["tags"]))


def _indexed(folder: Path, tracks: pd.DataFrame) -> bool:
    """Return True if the folder has an index of these tracks by its model."""
    try:
        return open_run(folder).tracks.equals(tracks)
    except WorkbookError:
        return False


def picture(recommender: Recommender, text: str) -> HTML:
    """Show the songs for a text as a table; return their map."""
    answer = ask(recommender, {"text": text})
    display(pd.DataFrame(answer.tracks, index=range(1, len(answer.tracks) + 1)).drop(columns="id"))
    return still(plane({"tuned": answer}, recommender.moods, backdrop(recommender)))
