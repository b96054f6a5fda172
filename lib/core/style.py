"""The style of all pictures: colours, fonts of all scripts, alternative texts, encoders' colours."""

import re
from functools import cache

import pandas as pd
import seaborn as sns
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

# Okabe and Ito (2008), and greys that differ from each of them: a test simulates colour-blind readers.
BASE, TUNED, OTHER, FAINT = "#666666", "#0072B2", "#E69F00", "#dddddd"
PALETTE = (TUNED, OTHER, "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
COLORS = {"base": BASE, "tuned": TUNED, "bm25": OTHER}
MORE = PALETTE[2:]  # other encoders
USUAL, BOXES = "DejaVu Sans", "Last Resort"  # the font of all pictures; a font that draws boxes

sns.set_theme(style="whitegrid", rc={"figure.dpi": 110, "axes.titlesize": 12, "axes.titlelocation": "left"})


def described(figure: Figure) -> tuple[dict, dict]:
    """Return a figure as notebooks keep it: a PNG in base64, with its titles as alternative text for blind readers."""
    titles = [figure.get_suptitle(), *(axes.get_title("left") or axes.get_title() for axes in figure.axes)]
    alternative = ". ".join(" ".join(title.split()) for title in titles if title)
    choose_fonts(figure)
    return {"image/png": print_figure(figure, "png", base64=True)}, {"image/png": {"alt": alternative}}


if shell := get_ipython():
    shell.display_formatter.mimebundle_formatter.for_type(Figure, described)


@cache
def font_of(letter: str) -> str | None:
    """Return the name of an installed font that has the letter; None if no font has it."""
    fonts = sorted(fontManager.ttflist, key=lambda font: font.name != USUAL)
    has_it = (font.name for font in fonts if FT2Font(font.fname).get_char_index(ord(letter)))
    return USUAL if letter.isspace() else next((name for name in has_it if not name.startswith(BOXES)), None)


def drawable(text: str) -> str:
    """Return the text with "…" for letters that no installed font has: they would be boxes."""
    return re.sub("\0+", "…", "".join(c if font_of(c) else "\0" for c in text))


def choose_fonts(figure: Figure) -> None:
    """Give each text of a figure the fonts of its letters, and make it `drawable`."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        if labels != (drawn := [drawable(label) for label in labels]):
            axis.set_ticks(axis.get_ticklocs(), drawn)
    for text in figure.findobj(Text):
        text.set_text(drawable(text.get_text()))
        if others := {font_of(letter) for letter in text.get_text()} - {USUAL}:
            text.set_fontfamily([USUAL, *sorted(others)])


def groups(values: pd.Series, most: int = len(PALETTE)) -> dict[str, str]:
    """Return a colour for each of the commonest values, none for unknown (""). The ninth has the first one's colour."""
    common = values[values != ""].value_counts().index[:most]
    return {value: PALETTE[i % len(PALETTE)] for i, value in enumerate(common)}


def color_of(names: list[str]) -> dict[str, str]:
    """Return a colour for each encoder: base, tuned and BM25 have the same ones in every picture."""
    others = (name for name in names if name not in COLORS)
    return COLORS | {name: MORE[i % len(MORE)] for i, name in enumerate(others)}
