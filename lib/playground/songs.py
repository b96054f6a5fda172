"""The songs on the page."""

from collections.abc import Callable

import ipywidgets as ui

from lib.core.pages import render
from lib.playground.answers import Answer
from lib.search.conditions.vocabulary import DATA

LANGUAGES = {code: name for name, code in DATA["languages"].items()}
MOST = 10  # songs in an answer


class SongList(ui.VBox):
    """One encoder's songs, with buttons to like and dislike each.

    The rows stay and only their content changes, so the keyboard focus stays, too.

    Args:
        rate: is called with "liked" or "disliked", and the track.
    """

    def __init__(self, name: str, rate: Callable[[str, dict], None]) -> None:
        self.tracks, self.rate = [], rate
        self.rows = [self._row(i) for i in range(MOST)]
        super().__init__([ui.HTML(f"<b>{name} encoder</b>"), *self.rows])
        self.add_class(f"answers-{name}")

    def _row(self, i: int) -> ui.HBox:
        like = button("Like", lambda: self.rate("liked", self.tracks[i]), icon="thumbs-up")
        dislike = button("Dislike", lambda: self.rate("disliked", self.tracks[i]), icon="thumbs-down")
        return ui.HBox([ui.HTML(), ui.Box([like, dislike]).add_class("thumbs")])

    def show(self, answer: Answer | None, reasons: list[dict] | None = None) -> None:
        """Fill the rows with an answer, and with its reasons once they are available; hide the list without one."""
        self.layout.display = "flex" if answer else "none"
        tracks = answer.tracks if answer else []
        for i, row in enumerate(self.rows):
            row.layout.display = "flex" if i < len(tracks) else "none"
        for i, track in enumerate(tracks):
            text, buttons = self.rows[i].children
            values = {"move": answer.moves[i], "why": reasons and reasons[i], "languages": LANGUAGES}
            text.value = render("playground/song.html", rank=i + 1, track=track, **values)
            for rate, word in zip(buttons.children, ("More", "Less"), strict=True):
                rate.tooltip = f"{word} like {track['title']}"
        self.tracks = tracks


def button(text: str, act: Callable[[], None], **traits) -> ui.Button:
    """Return a button that calls `act`."""
    widget = ui.Button(description=text, **traits)
    widget.on_click(lambda _: act())
    return widget
