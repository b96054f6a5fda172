"""The style of all pictures: colours, alternative texts, encoders' colours."""

import pandas as pd
import seaborn as sns
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure

# Okabe and Ito (2008), and greys that differ from each of them: a test simulates colour-blind readers.
BASE, TUNED, OTHER, FAINT = "#666666", "#0072B2", "#E69F00", "#dddddd"
PALETTE = (TUNED, OTHER, "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
COLORS = {"base": BASE, "tuned": TUNED, "bm25": OTHER}
MORE = PALETTE[2:]  # other encoders

sns.set_theme(style="whitegrid", rc={"figure.dpi": 110, "axes.titlesize": 12, "axes.titlelocation": "left"})


def described(figure: Figure) -> tuple[dict, dict]:
    """Return a figure as notebooks keep it: a PNG in base64, with its titles as alternative text for blind readers."""
    titles = [figure.get_suptitle(), *(axes.get_title("left") or axes.get_title() for axes in figure.axes)]
    alternative = ". ".join(" ".join(title.split()) for title in titles if title)
    return {"image/png": print_figure(figure, "png", base64=True)}, {"image/png": {"alt": alternative}}


if shell := get_ipython():
    shell.display_formatter.mimebundle_formatter.for_type(Figure, described)


def groups(values: pd.Series) -> dict[str, str]:
    """Return a colour for each of the commonest values, as many as readers can distinguish; none for unknown ("")."""
    common = values[values != ""].value_counts().index[: len(PALETTE)]
    return dict(zip(common, PALETTE, strict=False))


def color_of(names: list[str]) -> dict[str, str]:
    """Return a colour for each encoder: base, tuned and BM25 have the same ones in every picture."""
    others = (name for name in names if name not in COLORS)
    return COLORS | {name: MORE[i % len(MORE)] for i, name in enumerate(others)}
